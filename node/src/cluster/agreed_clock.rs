//! The wall clock that the nodes agree on: the median of what all nodes that are heard say.
//!
//! A node whose own clock is far from it stamps messages with the others' time, is handed no leadership and gives away those
//! that it has. Times are only shown: nothing is decided by them.

use std::sync::Arc;

use parlance_proto::ids::NodeId;

use super::heard::HeardNodes;
use super::runtime::Parts;
use crate::clock::Environment;

/// A clock that is further from the others' is wrong.
const FAR_MS: i64 = 60_000;

/// The nodes' clocks.
pub struct AgreedClock {
    pub(super) node_id: NodeId,
    pub(super) heard: HeardNodes,
    pub(super) own: Arc<dyn Environment>,
}

impl AgreedClock {
    pub(super) fn new(parts: &Parts) -> Arc<Self> {
        Arc::new(Self {
            node_id: NodeId(parts.identity.node_id),
            heard: parts.heard.clone(),
            own: parts.environment.clone(),
        })
    }

    /// How far a node's clock is ahead of what all agree on, in ms; none if the node is not heard.
    pub fn ahead_ms(&self, node: NodeId) -> Option<i64> {
        let own_ms = self.own.now_ms();
        let (agreed_ms, clocks) = self.agreed_ms(own_ms);
        let clock = clocks.into_iter().find(|(id, _)| *id == node);
        clock.map(|(_, ms)| ms.saturating_sub(agreed_ms))
    }

    /// Whether a node's clock is known to be wrong.
    pub fn is_far(&self, node: NodeId) -> bool {
        self.ahead_ms(node).is_some_and(is_far)
    }

    /// What all agree on, and what each says. Of two clocks the one behind is taken: shown time never goes back, so what is
    /// ahead would stay for long.
    fn agreed_ms(&self, own_ms: i64) -> (i64, Vec<(NodeId, i64)>) {
        let mut clocks = self.heard.clocks();
        clocks.retain(|(node, _)| *node != self.node_id);
        clocks.push((self.node_id, own_ms));
        clocks.sort_unstable_by_key(|(_, ms)| *ms);
        let middle = (clocks.len() - 1) / 2;
        let agreed = clocks.get(middle).map_or(own_ms, |(_, ms)| *ms);
        (agreed, clocks)
    }
}

fn is_far(ahead_ms: i64) -> bool {
    ahead_ms.unsigned_abs() > FAR_MS.unsigned_abs()
}

impl Environment for AgreedClock {
    /// This node's own clock, or what the others agree on if that is far from it.
    fn now_ms(&self) -> i64 {
        let own_ms = self.own.now_ms();
        let (agreed_ms, _) = self.agreed_ms(own_ms);
        if is_far(own_ms.saturating_sub(agreed_ms)) {
            agreed_ms
        } else {
            own_ms
        }
    }

    fn random(&self) -> [u8; 32] {
        self.own.random()
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::raft::v1::{LeaderAnnouncement, NodeHealth};

    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);
    const THREE: NodeId = NodeId(3);
    const NOW_MS: i64 = 1_700_000_000_000;
    const DAY_MS: i64 = 86_400_000;

    struct At(i64);

    impl Environment for At {
        fn now_ms(&self) -> i64 {
            self.0
        }

        fn random(&self) -> [u8; 32] {
            [0; 32]
        }
    }

    /// Node 1's view, whose own clock says `own_ms`.
    fn clock(own_ms: i64, others: &[(NodeId, i64)]) -> AgreedClock {
        let heard = HeardNodes::default();
        for (node, clock_ms) in others {
            let health = NodeHealth {
                time_ms: *clock_ms,
                ..NodeHealth::default()
            };
            let said = LeaderAnnouncement {
                health: Some(health),
                ..LeaderAnnouncement::default()
            };
            heard.hear(*node, &said);
        }
        AgreedClock {
            node_id: ONE,
            heard,
            own: Arc::new(At(own_ms)),
        }
    }

    /// Heard clocks go on while a test runs.
    fn is_about(ms: i64, expected_ms: i64) -> bool {
        (expected_ms..expected_ms + 30_000).contains(&ms)
    }

    #[tokio::test]
    async fn a_node_whose_clock_is_days_off_stamps_with_the_time_of_the_others() {
        for wrong_ms in [NOW_MS + 2 * DAY_MS, NOW_MS - 2 * DAY_MS, 0] {
            let clock = clock(wrong_ms, &[(TWO, NOW_MS), (THREE, NOW_MS + 20)]);
            assert!(is_about(clock.now_ms(), NOW_MS), "{wrong_ms}");
            assert!(clock.is_far(ONE) && !clock.is_far(TWO) && !clock.is_far(THREE));
        }
    }

    #[tokio::test]
    async fn another_nodes_wrong_clock_changes_nothing() {
        let clock = clock(NOW_MS, &[(TWO, NOW_MS), (THREE, NOW_MS + 2 * DAY_MS)]);
        assert_eq!(clock.now_ms(), NOW_MS);
        assert!(clock.is_far(THREE) && !clock.is_far(ONE));
    }

    #[tokio::test]
    async fn of_two_clocks_the_one_behind_counts_and_who_is_alone_has_its_own() {
        let ahead = clock(NOW_MS + DAY_MS, &[(TWO, NOW_MS)]);
        assert!(is_about(ahead.now_ms(), NOW_MS) && ahead.is_far(ONE));
        let behind = clock(NOW_MS, &[(TWO, NOW_MS + DAY_MS)]);
        assert_eq!(behind.now_ms(), NOW_MS);
        assert!(behind.is_far(TWO));
        let alone = clock(NOW_MS, &[]);
        assert_eq!(alone.now_ms(), NOW_MS);
        assert!(!alone.is_far(ONE) && !alone.is_far(TWO));
    }
}
