//! What is told by several nodes, in several orders, becomes one state.

use parlance_proto::link::v1::{App, Node, ShardLeader};

use super::*;

const ONE: ShardId = ShardId(1);
const TWO: ShardId = ShardId(2);

fn node(id: u64) -> Option<NodeId> {
    NodeId::known(id)
}

fn leads(node_id: u64, term: u64) -> ClusterUpdate {
    ClusterUpdate {
        cluster_id: "c".into(),
        leaders: vec![ShardLeader {
            shard: 1,
            node_id,
            term,
        }],
        ..ClusterUpdate::default()
    }
}

fn route(shard: u32, first_slot: u32, last_slot: u32, epoch: u64) -> ShardRoute {
    ShardRoute {
        shard,
        first_slot,
        last_slot,
        epoch,
    }
}

/// A topology with links to nodes 1 to 3.
fn linked() -> Topology {
    let mut topology = Topology::default();
    topology
        .link_sessions
        .extend((1..=3).map(|id| (NodeId(id), id)));
    topology
}

fn update(map_version: u64, whole: bool, nodes: &[u64], apps: &[&str]) -> ClusterUpdate {
    ClusterUpdate {
        cluster_id: "c".into(),
        map_version,
        whole,
        nodes: nodes
            .iter()
            .map(|id| Node {
                node_id: *id,
                link_address: format!("n{id}:1"),
            })
            .collect(),
        apps: apps
            .iter()
            .map(|id| App {
                app_id: (*id).to_owned(),
                ..App::default()
            })
            .collect(),
        ..ClusterUpdate::default()
    }
}

#[test]
fn highest_term_wins_and_ends_a_hint() {
    let mut topology = linked();
    assert!(topology.merge(leads(1, 2)).unwrap());
    assert!(topology.hint(ONE, NodeId(1), node(3)));
    assert_eq!(topology.leader(ONE), node(3));
    topology.merge(leads(2, 1)).unwrap();
    assert_eq!(topology.leader(ONE), node(3), "an older term is no news");
    topology.merge(leads(2, 3)).unwrap();
    assert_eq!((topology.leader(ONE), topology.term(ONE)), (node(2), 3));
    assert_eq!(topology.leader(TWO), None);
}

#[test]
fn a_wrong_hint_falls_back_and_other_clusters_are_refused() {
    let mut topology = linked();
    topology.merge(leads(1, 2)).unwrap();
    topology.hint(ONE, NodeId(1), node(3));
    assert!(topology.hint(ONE, NodeId(3), None));
    assert_eq!(topology.leader(ONE), node(1));
    let other = ClusterUpdate {
        cluster_id: "d".into(),
        ..leads(1, 3)
    };
    assert!(topology.merge(other).is_err());
    assert!(!topology.merge(ClusterUpdate::default()).unwrap());
}

#[test]
fn a_late_hint_does_not_override_the_leader_that_is_asked() {
    let mut topology = linked();
    topology.merge(leads(1, 2)).unwrap();
    topology.merge(leads(2, 3)).unwrap();
    assert!(!topology.hint(ONE, NodeId(1), node(3)), "late");
    assert_eq!(topology.leader(ONE), node(2));
}

#[test]
fn a_hint_counts_as_long_as_its_link_is_up() {
    let mut topology = linked();
    topology.merge(leads(1, 2)).unwrap();
    assert!(topology.hint(ONE, NodeId(1), node(3)));
    assert!(topology.unlink(NodeId(3)));
    assert_eq!(topology.leader(ONE), node(1));
    assert!(!topology.hint(ONE, NodeId(1), node(3)), "it is down");
    assert_eq!(topology.leader(ONE), node(1));
}

#[test]
fn changes_of_several_nodes_are_merged_by_their_version() {
    let mut topology = Topology::default();
    topology.merge(update(5, true, &[1, 2], &["a"])).unwrap();
    topology
        .merge(update(7, true, &[1, 2, 3], &["a", "b"]))
        .unwrap();
    // Node 1 tells what it has learned since version 5, later than node 2 did.
    assert!(!topology.merge(update(6, false, &[], &["a"])).unwrap());
    assert!(topology.merge(update(8, false, &[], &["c"])).unwrap());
    assert_eq!(topology.nodes.len(), 3, "no change of nodes was told");
    assert!(
        ["a", "b", "c"]
            .iter()
            .all(|id| topology.apps.app(id).is_some())
    );
    topology.merge(update(9, true, &[1], &["b"])).unwrap();
    assert!(topology.apps.app("a").is_none() && topology.nodes.len() == 1);
}

#[test]
fn a_split_is_known_by_epoch_before_and_after_the_map_has_it() {
    let mut topology = Topology::default();
    let mut whole = update(1, true, &[1, 2], &[]);
    whole.shards = vec![route(1, 0, 16_383, 1)];
    whole.leaders = leads(2, 4).leaders;
    topology.merge(whole.clone()).unwrap();
    let slot = Slot::new(12_000).unwrap();
    assert_eq!(topology.shard_of(slot), Some(ONE));
    // The shard itself says so; the map still has the old range.
    let moved = [route(1, 0, 8191, 2), route(2, 8192, 16_383, 2)];
    assert!(topology.add_routes(&moved));
    assert_eq!(topology.shard_of(slot), Some(TWO));
    assert_eq!(
        topology.leader(TWO),
        node(2),
        "the parent's leader is a good guess"
    );
    whole.map_version = 2;
    topology.merge(whole).unwrap();
    assert_eq!(
        topology.shard_of(slot),
        Some(TWO),
        "an older epoch is no news"
    );
    assert!(!topology.add_routes(&moved));
}
