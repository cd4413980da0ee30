//! What a new cluster looks like: how many shards, who owns which slots, which nodes have the replicas.

use std::collections::BTreeSet;

use parlance_proto::admin::v1::{InitClusterRequest, NodeSpec};
use parlance_proto::common::v1::Error;
use parlance_proto::ids::NodeId;
use parlance_proto::limits::SHARD_COUNT_MAX;
use parlance_proto::slot::SlotRange;
use parlance_proto::store::v1::{ClusterMap, MapShard};

use super::invite::{check_addresses, map_node};
use crate::apply::FIRST_EPOCH;

/// Replicas of a shard, when there are as many nodes.
const REPLICAS: usize = 3;
/// Shards of a new cluster when the operator does not say.
const DEFAULT_SHARDS_MAX: u32 = 64;
/// Cores that one led shard keeps busy, with what its node does for others.
const CORES_A_SHARD: u32 = 4;

/// Refuses what cannot be a cluster.
pub(super) fn check(own: NodeId, ask: &InitClusterRequest) -> Result<(), Error> {
    if ask.shard_count > SHARD_COUNT_MAX {
        let message = format!(
            "{} shards are not allowed: 1 to {SHARD_COUNT_MAX}",
            ask.shard_count
        );
        return Err(Error::invalid("shard_count", message));
    }
    let ids: BTreeSet<NodeId> = ask.nodes.iter().map(|node| NodeId(node.node_id)).collect();
    if ids.len() != ask.nodes.len() || ids.contains(&NodeId(0)) {
        let message = "node ids must be above 0 and each named once";
        return Err(Error::invalid("nodes", message));
    }
    if !ids.contains(&own) {
        let message = format!("node {own}, which was asked, is not among the nodes named");
        return Err(Error::invalid("nodes", message));
    }
    ask.nodes.iter().try_for_each(check_addresses)
}

/// As few shards as keep all cores of all nodes busy: each batches alone, so more of them cost more for the same.
pub(super) fn default_shard_count(cores_of_each: impl IntoIterator<Item = u32>) -> u32 {
    let shards = cores_of_each
        .into_iter()
        .map(|cores| (cores / CORES_A_SHARD).max(1));
    shards
        .fold(0, u32::saturating_add)
        .clamp(1, DEFAULT_SHARDS_MAX)
}

/// The nodes and the meta shard's replicas, of which the founder is the first. It has no shards yet.
pub(super) fn nodes(founder: NodeId, specs: &[NodeSpec]) -> ClusterMap {
    let ids = ids(specs);
    let place = ids.iter().position(|id| *id == founder).unwrap_or(0);
    ClusterMap {
        nodes: specs.iter().map(map_node).collect(),
        meta_replicas: numbers(replicas(&ids, place)),
        ..ClusterMap::default()
    }
}

/// Spreads slots, replicas and preferred leaders evenly over the nodes.
pub(super) fn shards(count: u32, specs: &[NodeSpec]) -> Vec<MapShard> {
    let ids = ids(specs);
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let ranges = SlotRange::divide(count).zip(1..);
    let shards = ranges.map(|(range, shard)| {
        let replicas = replicas(&ids, shard as usize - 1);
        MapShard {
            shard,
            founder: NodeId::or_zero(replicas.first().copied()),
            replicas: numbers(replicas),
            first_slot: range.first().number().into(),
            last_slot: range.last().number().into(),
            epoch: FIRST_EPOCH,
            parent: 0,
            pending: false,
        }
    });
    shards.collect()
}

fn numbers(nodes: Vec<NodeId>) -> Vec<u64> {
    nodes.into_iter().map(|node| node.0).collect()
}

fn ids(specs: &[NodeSpec]) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = specs.iter().map(|node| NodeId(node.node_id)).collect();
    ids.sort_unstable();
    ids
}

fn replicas(ids: &[NodeId], first: usize) -> Vec<NodeId> {
    ids.iter()
        .cycle()
        .skip(first % ids.len().max(1))
        .take(REPLICAS.min(ids.len()))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(count: u64) -> Vec<NodeSpec> {
        let spec = |node_id| NodeSpec {
            node_id,
            raft_address: format!("127.0.0.1:{}", 1000 + node_id),
            link_address: format!("127.0.0.1:{}", 2000 + node_id),
        };
        (1..=count).map(spec).collect()
    }

    #[test]
    fn slots_replicas_and_leaders_are_spread_evenly() {
        for (nodes, replicas) in [(1, 1), (2, 2), (3, 3), (5, 3)] {
            let shards = shards(60, &specs(nodes));
            assert_eq!(
                shards.iter().map(|s| s.shard).collect::<Vec<_>>(),
                (1..=60).collect::<Vec<_>>()
            );
            assert_eq!((shards[0].first_slot, shards[59].last_slot), (0, 16_383));
            for node in 1..=nodes {
                let leads = shards
                    .iter()
                    .filter(|s| s.founder == node && s.replicas[0] == node);
                assert_eq!(leads.count() as u64, 60 / nodes);
            }
            assert!(
                shards
                    .iter()
                    .all(|s| s.replicas.iter().collect::<BTreeSet<_>>().len() == replicas)
            );
        }
    }

    #[test]
    fn the_founder_is_in_the_meta_shard() {
        for founder in 1..=5 {
            let map = nodes(NodeId(founder), &specs(5));
            assert_eq!(map.meta_replicas.first(), Some(&founder));
            assert_eq!(map.meta_replicas.len(), 3);
        }
    }

    #[test]
    fn a_small_cluster_has_few_shards_and_a_large_one_not_too_many() {
        let default = |nodes: usize, cores: u32| default_shard_count(vec![cores; nodes]);
        assert_eq!(default(1, 2), 1);
        assert_eq!(default(3, 2), 3);
        assert_eq!(default(3, 8), 6);
        assert_eq!(default(5, 16), 20);
        assert_eq!(default(9, 64), 64);
        assert_eq!(default_shard_count([]), 1, "a node that did not say");
        assert_eq!(default_shard_count([0, 2, 32]), 10);
    }

    #[test]
    fn what_cannot_be_a_cluster_is_refused() {
        let ask = |nodes, shard_count| InitClusterRequest { nodes, shard_count };
        check(NodeId(1), &ask(specs(3), 0)).unwrap();
        check(NodeId(1), &ask(specs(3), SHARD_COUNT_MAX)).unwrap();
        assert!(check(NodeId(1), &ask(specs(3), SHARD_COUNT_MAX + 1)).is_err());
        assert!(
            check(NodeId(4), &ask(specs(3), 64)).is_err(),
            "the node asked is not among them"
        );
        assert!(
            check(NodeId(1), &ask([specs(1), specs(1)].concat(), 64)).is_err(),
            "twice the same id"
        );
        let mut bad = specs(1);
        bad[0].link_address = "nowhere".into();
        assert!(check(NodeId(1), &ask(bad, 64)).is_err());
    }
}
