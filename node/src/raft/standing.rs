//! When a voter that no longer hears from its leader stands for election: once the lease that it gave has run out, the
//! voters one after the other. So the first that can lead does, soon, and no two split the votes.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use tokio::time::Instant;

/// Between two voters' turns, and behind the lease: longer than an election takes, and than the others may have heard
/// their leader later.
const TURN: Duration = Duration::from_millis(75);

/// The last word of a leader, and the next turn.
#[derive(Debug)]
pub(super) struct Standing(Mutex<Heard>);

#[derive(Debug)]
struct Heard {
    at: Instant,
    /// Turns taken since.
    turns: u32,
}

impl Standing {
    /// Of a replica that starts: a leader may have been heard a moment ago.
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Heard { at: now, turns: 0 }))
    }

    /// A leader was heard.
    pub(super) fn heard(&self, at: Instant) {
        *self.0.lock() = Heard { at, turns: 0 };
    }

    /// When to stand next. `rank` of the `voters` stand before this one.
    pub(super) fn due(&self, lease: Duration, rank: u32, voters: u32) -> Instant {
        let heard = self.0.lock();
        let turn = heard.turns.saturating_mul(voters).saturating_add(rank);
        heard.at + lease + TURN * turn.saturating_add(1)
    }

    /// A turn was taken: the next one comes after those of the other voters.
    pub(super) fn took_turn(&self) {
        let mut heard = self.0.lock();
        heard.turns = heard.turns.saturating_add(1);
    }
}

/// How many voters have their turn before this node: another order for each shard, and the leader last, who is gone or has
/// forgotten that it led. None if this node has no vote.
pub(super) fn rank(
    shard: ShardId,
    node: NodeId,
    leader: Option<NodeId>,
    voters: &BTreeSet<NodeId>,
) -> Option<u32> {
    let others = || voters.iter().filter(|voter| Some(**voter) != leader);
    let count = others().count();
    let rank = match others().position(|voter| *voter == node) {
        Some(place) => (place + count - shard.0 as usize % count) % count,
        None if voters.contains(&node) => count,
        None => return None,
    };
    u32::try_from(rank).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_voter_has_a_turn_of_its_own_and_the_lost_leader_the_last() {
        let voters: BTreeSet<NodeId> = (1..=5).map(NodeId).collect();
        for shard in 0..7 {
            let rank = |node| rank(ShardId(shard), NodeId(node), Some(NodeId(3)), &voters);
            let mut ranks: Vec<u32> = [1, 2, 4, 5].into_iter().filter_map(rank).collect();
            ranks.sort_unstable();
            assert_eq!(ranks, [0, 1, 2, 3]);
            assert_eq!(rank(3), Some(4));
            assert_eq!(rank(6), None, "a learner");
        }
    }

    #[test]
    fn turns_begin_behind_the_lease_and_start_anew_with_each_word_of_a_leader() {
        let (heard, lease) = (Instant::now(), Duration::from_millis(600));
        let standing = Standing::new(heard);
        assert_eq!(standing.due(lease, 0, 2), heard + lease + TURN);
        assert_eq!(standing.due(lease, 1, 2), heard + lease + TURN * 2);
        standing.took_turn();
        assert_eq!(standing.due(lease, 0, 2), heard + lease + TURN * 3);
        let heard = heard + lease;
        standing.heard(heard);
        assert_eq!(standing.due(lease, 0, 2), heard + lease + TURN);
    }
}
