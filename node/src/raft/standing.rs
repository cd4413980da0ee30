//! When a voter that no longer hears from its leader stands for election: once the lease that it gave has run out, the
//! voters one after the other. So the first that can lead does, soon, and no two split the votes.
//!
//! The library's own timer, which waits a random time behind the lease, comes later and only where nobody was heard yet.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use tokio::time::Instant;

/// Between two voters' turns, and behind the lease: longer than an election takes, and than the others may have heard
/// their leader later.
const TURN: Duration = Duration::from_millis(75);

/// The last word of a leader, and the next turn.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    at: Option<Instant>,
    /// Turns taken since.
    turns: u32,
}

impl Standing {
    /// A leader was heard.
    pub(super) fn heard(&self, at: Instant) {
        *self.0.lock() = Heard {
            at: Some(at),
            turns: 0,
        };
    }

    /// When to stand next; never before a leader was heard. `rank` of the `voters` stand before this one.
    pub(super) fn due(&self, lease: Duration, rank: u32, voters: u32) -> Option<Instant> {
        let heard = self.0.lock();
        let turn = heard.turns.saturating_mul(voters).saturating_add(rank);
        Some(heard.at? + lease + TURN * turn.saturating_add(1))
    }

    /// A turn was taken: the next one comes after those of the other voters.
    pub(super) fn took_turn(&self) {
        let mut heard = self.0.lock();
        heard.turns = heard.turns.saturating_add(1);
    }
}

/// How many voters have their turn before this node: another order for each shard, without the leader, who is gone.
/// None if this node has no vote.
pub(super) fn rank(
    shard: ShardId,
    node: NodeId,
    leader: Option<NodeId>,
    voters: &BTreeSet<NodeId>,
) -> Option<u32> {
    let others = || voters.iter().filter(|voter| Some(**voter) != leader);
    let (count, place) = (others().count(), others().position(|voter| *voter == node)?);
    let first = shard.0 as usize % count;
    u32::try_from((place + count - first) % count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_voter_but_the_lost_leader_has_a_turn_of_its_own() {
        let voters: BTreeSet<NodeId> = (1..=5).map(NodeId).collect();
        for shard in 0..7 {
            let rank = |node| rank(ShardId(shard), NodeId(node), Some(NodeId(3)), &voters);
            let mut ranks: Vec<u32> = [1, 2, 4, 5].into_iter().filter_map(rank).collect();
            ranks.sort_unstable();
            assert_eq!(ranks, [0, 1, 2, 3]);
            assert_eq!(rank(6), None, "a learner");
        }
    }

    #[test]
    fn turns_begin_behind_the_lease_and_start_anew_with_each_word_of_a_leader() {
        let (standing, lease) = (Standing::default(), Duration::from_millis(600));
        assert_eq!(standing.due(lease, 0, 2), None);
        let heard = Instant::now();
        standing.heard(heard);
        assert_eq!(standing.due(lease, 0, 2), Some(heard + lease + TURN));
        assert_eq!(standing.due(lease, 1, 2), Some(heard + lease + TURN * 2));
        standing.took_turn();
        assert_eq!(standing.due(lease, 0, 2), Some(heard + lease + TURN * 3));
        let heard = heard + lease;
        standing.heard(heard);
        assert_eq!(standing.due(lease, 0, 2), Some(heard + lease + TURN));
    }
}
