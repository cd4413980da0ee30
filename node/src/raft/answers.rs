//! When each follower was last asked something that it answered: what a leader may conclude from that.
//!
//! The library keeps such times too, but credits an answer to requests that were sent after the one that it answers, if they
//! carried nothing new. A leader whose messages are cut off would believe in its lease for longer than its followers do. Here an answer
//! counts for its own request, from when that was sent. And it goes by a clock that goes on while the machine sleeps.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use parlance_proto::ids::NodeId;
use tokio::sync::{Notify, futures::Notified};

use crate::clock::Moment;

/// What the followers of one shard have answered this node in its newest term.
#[derive(Debug, Default)]
pub(super) struct Answers {
    of_term: Mutex<OfTerm>,
    counted: Notify,
}

#[derive(Debug, Default)]
struct OfTerm {
    term: u64,
    /// When the newest request was sent that has an answer.
    sent: BTreeMap<NodeId, Moment>,
}

impl Answers {
    /// A follower has accepted what was sent to it by the leader of a term.
    pub(super) fn count(&self, term: u64, follower: NodeId, sent: Moment) {
        let mut answers = self.of_term.lock();
        if term > answers.term {
            *answers = OfTerm {
                term,
                sent: BTreeMap::new(),
            };
        }
        if term == answers.term {
            let newest = answers.sent.entry(follower).or_insert(sent);
            *newest = sent.max(*newest);
        }
        drop(answers);
        self.counted.notify_waiters();
    }

    /// Resolves with the next answer from the call on.
    pub(super) fn counted(&self) -> Notified<'_> {
        self.counted.notified()
    }

    /// Up to when a majority of each set of voters surely took `own` for the leader of `term`. None if one never did, or if there
    /// are no voters. Of a set that is `own` alone it is `now`.
    pub(super) fn majority(
        &self,
        term: u64,
        own: NodeId,
        sets: &[BTreeSet<NodeId>],
        now: Moment,
    ) -> Option<Moment> {
        let answers = self.of_term.lock();
        let sent = |voter: &NodeId| match voter {
            voter if *voter == own => Some(now),
            voter if term == answers.term => answers.sent.get(voter).copied(),
            _ => None,
        };
        let of_set = |voters: &BTreeSet<NodeId>| {
            let mut times: Vec<Option<Moment>> = voters.iter().map(sent).collect();
            times.sort_unstable_by(|one, other| other.cmp(one)); // the newest first, none last
            times.get(voters.len() / 2).copied().flatten()
        };
        let each: Option<Vec<Moment>> = sets.iter().map(of_set).collect();
        each?.into_iter().min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OWN: NodeId = NodeId(1);

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[tokio::test]
    async fn a_majority_is_as_recent_as_the_slowest_that_it_needs() {
        let start = Moment::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let answers = Answers::default();
        let majority = |sets: &[BTreeSet<NodeId>]| answers.majority(7, OWN, sets, at(60));
        let three = [set(&[1, 2, 3])];
        assert_eq!(majority(&three), None);
        answers.count(7, NodeId(2), at(10));
        assert_eq!(majority(&three), Some(at(10)));
        answers.count(7, NodeId(3), at(20));
        answers.count(7, NodeId(3), at(15)); // an older request, answered late
        assert_eq!(majority(&three), Some(at(20)));
        assert_eq!(majority(&[set(&[1, 2, 3, 4, 5])]), Some(at(10)));
        assert_eq!(majority(&[set(&[1])]), Some(at(60)));
        assert_eq!(majority(&[set(&[2, 3])]), Some(at(10)), "it votes no more");
        let joint = [set(&[1, 2, 3]), set(&[4, 5, 3])];
        assert_eq!(majority(&joint), None);
        answers.count(7, NodeId(4), at(5));
        assert_eq!(majority(&joint), Some(at(5)));
    }

    #[tokio::test]
    async fn answers_count_in_their_own_term_only() {
        let (answers, now, three) = (Answers::default(), Moment::now(), [set(&[1, 2, 3])]);
        answers.count(7, NodeId(2), now);
        assert_eq!(answers.majority(8, OWN, &three, now), None);
        answers.count(8, NodeId(2), now);
        answers.count(7, NodeId(3), now); // late
        assert_eq!(answers.majority(7, OWN, &three, now), None);
        assert_eq!(answers.majority(8, OWN, &three, now), Some(now));
    }
}
