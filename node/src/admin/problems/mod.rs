//! What is wrong with the cluster, judged by what its status says: the one place that knows when a figure is bad. Each
//! kind of problem has a row in docs/operations.md, which a test compares.

mod certificates;
mod links;
mod nodes;
mod shards;

use std::collections::BTreeMap;

use parlance_proto::admin::v1::{GetClusterStatusResponse, NodeStatus, Problem};
use parlance_proto::raft::v1::NodeHealth;

/// What is judged.
struct Seen<'a> {
    status: &'a GetClusterStatusResponse,
    /// What each node that was heard has found out about itself.
    health: &'a BTreeMap<u64, NodeHealth>,
    /// The answering node's clock.
    now_ms: i64,
}

/// What is wrong, the worst first.
pub(super) fn problems(
    status: &GetClusterStatusResponse,
    health: &BTreeMap<u64, NodeHealth>,
    now_ms: i64,
) -> Vec<Problem> {
    let seen = Seen {
        status,
        health,
        now_ms,
    };
    if status.shard_count == 0 {
        return vec![problem(
            "not_made",
            "the cluster is not made yet, or this node has not heard of it",
            "if parlance cluster init was cut off, run it again",
        )];
    }
    [
        seen.without_leader(),
        seen.unheard(),
        seen.stopped_replicas(),
        seen.disks(),
        seen.behind(),
        seen.not_as_wanted(),
        seen.unlinked_gateways(),
        seen.wedged_links(),
        seen.late_pushes(),
        seen.clocks(),
        seen.ended_certificates(),
    ]
    .concat()
}

/// What is not wrong, but wants to be done or known.
pub(super) fn notices(status: &GetClusterStatusResponse, now_ms: i64) -> Vec<Problem> {
    let health = BTreeMap::new();
    let seen = Seen {
        status,
        health: &health,
        now_ms,
    };
    [
        seen.upgrade_due(),
        seen.versions_differ(),
        seen.ending_certificates(),
    ]
    .concat()
}

impl Seen<'_> {
    fn members(&self) -> impl Iterator<Item = &NodeStatus> {
        self.status.nodes.iter().filter(|n| n.state == "member")
    }

    fn is_reachable(&self, node_id: u64) -> bool {
        let mut members = self.members();
        members.any(|node| node.node_id == node_id && node.reachable)
    }
}

fn problem(kind: &str, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem {
        kind: kind.to_owned(),
        what: what.into(),
        remedy: remedy.into(),
    }
}

/// Seconds with one decimal.
fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use parlance_proto::admin::v1::{
        Behind, CertificateStatus, GatewayLinkStatus, GatewayStatus, ShardStatus, StoppedReplica,
    };
    use parlance_proto::raft::v1::StoreTrouble;

    use super::*;

    type Health = BTreeMap<u64, NodeHealth>;

    const NOW_MS: i64 = 1_700_000_000_000;

    /// Three nodes, two shards, one gateway: all is well.
    fn well() -> (GetClusterStatusResponse, Health) {
        let node = |node_id| NodeStatus {
            node_id,
            state: "member".into(),
            reachable: true,
            version: "1.0.0".into(),
            disk_free_bytes: 500 << 30,
            disk_total_bytes: 1000 << 30,
            ..NodeStatus::default()
        };
        let shard = |shard| ShardStatus {
            shard,
            leader: 1,
            wanted: vec![1, 2, 3],
            health: "ok".into(),
            ..ShardStatus::default()
        };
        let link = |node_id| GatewayLinkStatus {
            node_id,
            connected: true,
            waiting_ms: 3,
        };
        let status = GetClusterStatusResponse {
            cluster_id: "c".into(),
            shard_count: 2,
            nodes: (1..=3).map(node).collect(),
            shards: vec![shard(1), shard(2)],
            meta: Some(shard(0)),
            gateways: vec![GatewayStatus {
                gateway_id: "g1".into(),
                links: (1..=3).map(link).collect(),
                ..GatewayStatus::default()
            }],
            feature_level: 1,
            feature_level_possible: 1,
            ..GetClusterStatusResponse::default()
        };
        let health = (1..=3).map(|id| (id, NodeHealth::default())).collect();
        (status, health)
    }

    /// What a change makes of a cluster that is well: kinds and texts.
    fn after(
        change: impl FnOnce(&mut GetClusterStatusResponse, &mut Health),
    ) -> Vec<(String, String)> {
        let (mut status, mut health) = well();
        change(&mut status, &mut health);
        let found = problems(&status, &health, NOW_MS).into_iter();
        found
            .inspect(|found| assert!(!found.remedy.is_empty(), "{found:?}"))
            .map(|found| (found.kind, found.what))
            .collect()
    }

    fn only(found: Vec<(String, String)>, kind: &str, text: &str) {
        let [(first, what)] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(first == kind && what.contains(text), "{found:?}");
    }

    #[test]
    fn nothing_is_wrong_with_a_cluster_that_is_well() {
        assert_eq!(after(|_, _| {}), []);
        assert_eq!(notices(&well().0, NOW_MS), []);
    }

    #[test]
    fn a_lost_node_is_named_once_and_a_lost_majority_with_its_shards() {
        only(
            after(|status, _| status.nodes[2].reachable = false),
            "node_unheard",
            "node 3",
        );
        let two = after(|status, _| {
            status.nodes[1].reachable = false;
            status.nodes[2].reachable = false;
        });
        let kinds: Vec<&str> = two.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["no_majority", "node_unheard", "node_unheard"]);
        assert!(
            two[0].1.contains("the meta shard and shards 1, 2"),
            "{two:?}"
        );
    }

    #[test]
    fn shards_that_do_not_do_what_they_should_are_named() {
        only(after(|s, _| s.shards[1].leader = 0), "no_leader", "shard 2");
        only(
            after(|s, _| s.shards[0].health = "moving".into()),
            "moving",
            "shard 1",
        );
        let behind = |node_id| Behind {
            node_id,
            entries: 9_000,
        };
        only(
            after(|s, _| s.shards[0].behind = vec![behind(2)]),
            "replica_behind",
            "node 2",
        );
        let stopped = StoppedReplica {
            shard: 2,
            reason: "disk full".into(),
        };
        only(
            after(|s, _| s.nodes[0].stopped = vec![stopped]),
            "replica_stopped",
            "node 1, shard 2: disk full",
        );
    }

    #[test]
    fn a_nodes_own_troubles_are_told() {
        only(
            after(|s, _| s.nodes[0].disk_free_bytes = 1 << 29),
            "disk_low",
            "0.5 GiB",
        );
        only(
            after(|s, _| s.nodes[1].clock_ahead_ms = -7_250),
            "clocks_apart",
            "node 2 is 7.2 s behind",
        );
        let health =
            |change: fn(&mut NodeHealth)| after(|_, health| change(health.get_mut(&3).unwrap()));
        let trouble = |health: &mut NodeHealth| {
            health.stores = vec![StoreTrouble {
                store: "state".into(),
                failing: true,
                stopped: false,
            }];
        };
        only(health(trouble), "store_failing", "node 3");
        only(
            health(|h| h.disk_lacking = 1),
            "disk_full",
            "node 3 is full: 0.0 GiB free, the node takes nothing new",
        );
        only(health(|h| h.disk_silent_ms = 9_000), "disk_silent", "9.0 s");
        only(
            health(|h| h.oldest_push_ms = 60_000),
            "pushes_late",
            "node 3",
        );
    }

    #[test]
    fn gateways_that_nodes_cannot_reach_are_told() {
        only(
            after(|s, _| s.gateways[0].links.truncate(2)),
            "gateway_unlinked",
            "gateway g1 has no link to node 3",
        );
        only(
            after(|s, _| s.gateways[0].links[0].waiting_ms = 8_000),
            "link_wedged",
            "gateway g1 has not acknowledged node 1 for 8.0 s",
        );
    }

    #[test]
    fn an_upgrade_is_a_notice_and_no_problem() {
        let (mut status, health) = well();
        status.feature_level_possible = 2;
        status.nodes[2].version = "1.1.0".into();
        assert_eq!(problems(&status, &health, NOW_MS), []);
        let kinds: Vec<String> = notices(&status, NOW_MS)
            .into_iter()
            .map(|n| n.kind)
            .collect();
        assert_eq!(kinds, ["upgrade_due", "versions_differ"]);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_a_notice_and_one_that_has_ended_a_problem() {
        let ends = |days: i64| {
            Some(CertificateStatus {
                expires_s: NOW_MS / 1000 + days * 24 * 3600,
                ..CertificateStatus::default()
            })
        };
        let (mut status, _) = well();
        status.nodes[1].certificate = ends(20);
        status.nodes[2].certificate = ends(40);
        let found = notices(&status, NOW_MS);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].kind, "certificate_ends");
        assert!(
            found[0].what.contains("node 2 ends in 20 days"),
            "{found:?}"
        );
        only(
            after(|s, _| s.gateways[0].certificate = ends(-1)),
            "certificate_ended",
            "gateway g1",
        );
    }

    #[test]
    fn what_is_no_cluster_yet_says_only_that() {
        only(after(|s, _| s.shard_count = 0), "not_made", "not made yet");
    }
}
