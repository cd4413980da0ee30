//! When a voter that no longer hears its leader stands for election. The voters take turns once the lease that they gave has
//! run out, so that the first that can win does, and votes are not split.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use tokio::time::Instant;

/// Turns in a lease: one is longer than an election usually takes, and than the others may have heard their leader later.
const TURNS_A_LEASE: u32 = 8;
/// Each round without a leader has longer turns, up to this many times as long: disks and networks may be slow.
const STRETCH_MAX: u32 = 8;

/// The turns of one replica.
#[derive(Debug)]
pub(super) struct ElectionTurns {
    lease: Duration,
    round: Mutex<Round>,
}

#[derive(Debug)]
struct Round {
    begins: Instant,
    /// Rounds before it since a leader was heard.
    before: u32,
    /// The leader that was heard last.
    leader: Option<NodeId>,
}

impl ElectionTurns {
    /// Of a replica that starts: a leader may have been heard a moment ago.
    pub(super) fn new(lease: Duration, now: Instant) -> Self {
        let round = Round {
            begins: now + lease,
            before: 0,
            leader: None,
        };
        Self {
            lease,
            round: Mutex::new(round),
        }
    }

    /// A leader was heard.
    pub(super) fn heard(&self, leader: NodeId, now: Instant) {
        self.begin(now + self.lease, Some(leader));
    }

    /// This replica, of node `own`, leads no more: whoever took over, or is about to, has the time of a lease. The others
    /// know who led: if it did not, its turn would be that of one of them.
    pub(super) fn led(&self, own: NodeId, now: Instant) {
        self.begin(now + self.lease, Some(own));
    }

    /// It has voted for another, who may win.
    pub(super) fn voted(&self, now: Instant) {
        let leader = self.round.lock().leader;
        self.begin(now + self.lease / 2, leader);
    }

    fn begin(&self, begins: Instant, leader: Option<NodeId>) {
        *self.round.lock() = Round {
            begins,
            before: 0,
            leader,
        };
    }

    /// The next turn of `node`; none if it has no vote.
    pub(super) fn next(
        &self,
        shard: ShardId,
        node: NodeId,
        voters: &BTreeSet<NodeId>,
    ) -> Option<Instant> {
        let round = self.round.lock();
        let rank = rank(shard, node, round.leader, voters)?;
        Some(round.begins + self.turn(&round) * (rank + 1))
    }

    /// A turn was taken: the next one is in a round that is not over yet.
    pub(super) fn took(&self, voters: u32, now: Instant) {
        let mut round = self.round.lock();
        loop {
            let length = self.turn(&round) * voters;
            round.begins += length;
            round.before = round.before.saturating_add(1);
            if round.begins + self.turn(&round) > now {
                return;
            }
        }
    }

    fn turn(&self, round: &Round) -> Duration {
        let stretch = round.before.saturating_add(1).min(STRETCH_MAX);
        self.lease / TURNS_A_LEASE * stretch
    }
}

/// How many voters have their turn before this node: another order for each shard, and the leader last, who is gone or has
/// forgotten that it led.
fn rank(
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

    const LEASE: Duration = Duration::from_millis(800);
    const TURN: Duration = Duration::from_millis(100);
    const SHARD: ShardId = ShardId(3);

    fn voters(count: u64) -> BTreeSet<NodeId> {
        (1..=count).map(NodeId).collect()
    }

    fn next(turns: &ElectionTurns, node: u64) -> Instant {
        turns.next(SHARD, NodeId(node), &voters(3)).unwrap()
    }

    #[test]
    fn every_voter_has_a_turn_of_its_own_and_the_lost_leader_the_last() {
        for shard in 0..7 {
            let rank = |node| rank(ShardId(shard), NodeId(node), Some(NodeId(3)), &voters(5));
            let mut ranks: Vec<u32> = [1, 2, 4, 5].into_iter().filter_map(rank).collect();
            ranks.sort_unstable();
            assert_eq!(ranks, [0, 1, 2, 3]);
            assert_eq!(rank(3), Some(4));
            assert_eq!(rank(6), None, "a learner");
        }
    }

    #[test]
    fn turns_begin_behind_the_lease_and_each_round_has_longer_ones() {
        let start = Instant::now();
        let turns = ElectionTurns::new(LEASE, start);
        turns.heard(NodeId(1), start);
        // Shard 3 of the two voters that are left: the second goes first.
        assert_eq!(next(&turns, 3), start + LEASE + TURN);
        assert_eq!(next(&turns, 2), start + LEASE + TURN * 2);
        turns.took(3, start + LEASE + TURN);
        let second = start + LEASE + TURN * 3;
        assert_eq!(next(&turns, 3), second + TURN * 2);
        turns.heard(NodeId(1), second);
        assert_eq!(next(&turns, 3), second + LEASE + TURN);
    }

    #[test]
    fn whoever_led_or_voted_a_moment_ago_waits_for_the_new_leader() {
        let start = Instant::now();
        let turns = ElectionTurns::new(LEASE, start);
        let day = start + Duration::from_secs(24 * 3600);
        turns.led(NodeId(3), day);
        assert!(next(&turns, 3) > day + LEASE);
        turns.voted(day + LEASE);
        assert!(next(&turns, 3) > day + LEASE + LEASE / 2);
    }

    /// It stepped down for one who did not win, just when the others heard it last.
    #[test]
    fn whoever_has_led_and_those_who_followed_stand_one_after_the_other() {
        let start = Instant::now();
        for shard in (0..12).map(ShardId) {
            let own = NodeId(1);
            let all = voters(3).into_iter().map(|node| {
                let turns = ElectionTurns::new(LEASE, start);
                match node == own {
                    true => turns.led(own, start),
                    false => turns.heard(own, start),
                }
                (node, turns)
            });
            let all: Vec<_> = all.collect();
            for round in 0..4 {
                let next = |(node, turns): &(NodeId, ElectionTurns)| {
                    turns.next(shard, *node, &voters(3)).unwrap()
                };
                let at: BTreeSet<Instant> = all.iter().map(next).collect();
                assert_eq!(at.len(), 3, "shard {shard}, round {round}: {at:?}");
                let own_turn = next(&all[0]);
                assert_eq!(at.last(), Some(&own_turn), "it has its turn last");
                all.iter().for_each(|(_, turns)| turns.took(3, own_turn));
            }
        }
    }

    #[test]
    fn what_was_missed_in_a_pause_is_not_made_up_for() {
        let start = Instant::now();
        let turns = ElectionTurns::new(LEASE, start);
        turns.heard(NodeId(1), start);
        let later = start + Duration::from_secs(600);
        turns.took(3, later);
        assert!(next(&turns, 3) > later);
        assert!(next(&turns, 3) < later + TURN * STRETCH_MAX * 4);
    }
}
