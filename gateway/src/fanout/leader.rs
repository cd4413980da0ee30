//! Which leader of a shard knows our topics, and what a change of leaders means for the events between. Pure.
//!
//! A leader that we left may have given events up only because our link to it was broken. So whoever is left is watched
//! until some time after its successor knows us, and when its link turns out to be broken, its events count as missed. So do
//! those of a term that nobody told us of.

use std::time::Duration;

use parlance_proto::ids::{NodeId, ShardId};
use tokio::time::Instant;

use crate::cluster::Topology;

/// How long a leader that was left is watched once its successor knows us. Longer than both ends need to notice a broken
/// link.
const BREAK_NOTICED_WITHIN: Duration = Duration::from_secs(15);
/// Leaders watched at a time: above it the oldest counts as broken.
const LEFT_MAX: usize = 16;

/// A leader that was told all our topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) node: NodeId,
    /// Of the leader's own answer: a later term of the same node has forgotten us.
    pub(super) term: u64,
    pub(super) link_session: u64,
}

impl Told {
    fn is_linked(&self, topology: &Topology) -> bool {
        topology.link_sessions.get(&self.node) == Some(&self.link_session)
    }

    fn stands(&self, topology: &Topology, shard: ShardId) -> bool {
        self.is_linked(topology)
            && topology.leader(shard) == Some(self.node)
            && topology.term(shard) <= self.term
    }
}

/// The leader that knows our topics, and those before.
#[derive(Debug, Clone, Default)]
pub(super) struct Leaders {
    told: Option<Told>,
    left: Vec<Left>,
    /// The newest term whose leader knew us; a shard's terms begin with 1.
    last_term: u64,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    leader: Told,
    /// Since when a successor knows us.
    succeeded: Option<Instant>,
}

/// What has happened since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The leader that knew us is one no more, or its link is gone.
    pub(super) left: bool,
    /// A link on which events were pushed has broken: they may be missed.
    pub(super) broken: bool,
}

impl Leaders {
    /// The leader that knows our topics.
    pub(super) fn told(&self) -> Option<Told> {
        self.told
    }

    /// Compares with what is known of the cluster now.
    pub(super) fn look(&mut self, topology: &Topology, shard: ShardId, now: Instant) -> Change {
        let mut change = Change {
            left: false,
            broken: false,
        };
        if let Some(told) = self.told.filter(|told| !told.stands(topology, shard)) {
            self.told = None;
            change.left = true;
            self.left.push(Left {
                leader: told,
                succeeded: None,
            });
        }
        let overdue = |left: &Left| {
            let since = left.succeeded;
            since.is_some_and(|since| now >= since + BREAK_NOTICED_WITHIN)
        };
        self.left.retain(|left| {
            let broken = !left.leader.is_linked(topology);
            change.broken |= broken;
            !broken && !overdue(left)
        });
        if self.left.len() > LEFT_MAX {
            self.left.remove(0);
            change.broken = true;
        }
        change
    }

    /// A leader does not take what it is told: everything must be told anew.
    pub(super) fn distrust(&mut self) -> bool {
        let told = self.told.take();
        self.left.extend(told.map(|leader| Left {
            leader,
            succeeded: None,
        }));
        told.is_some()
    }

    /// A leader knows all our topics. Answers whether all leaders since the last one knew us: whoever led in between may have
    /// given our events up.
    pub(super) fn tell(&mut self, told: Told, now: Instant) -> bool {
        let follows = told.term <= self.last_term + 1;
        self.last_term = told.term.max(self.last_term);
        self.told = Some(told);
        for left in &mut self.left {
            left.succeeded.get_or_insert(now);
        }
        follows
    }

    /// Users of another shard come with the leaders that knew them there.
    pub(super) fn inherit(&mut self, parent: &Leaders) {
        let told = parent.told.map(|leader| Left {
            leader,
            succeeded: None,
        });
        self.left.extend(parent.left.iter().copied().chain(told));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn topology() -> Topology {
        let mut topology = Topology::default();
        topology.link_sessions.extend([(A, 11), (B, 12), (C, 13)]);
        topology.lead(SHARD, A, 1);
        topology
    }

    fn told(node: NodeId, term: u64) -> Told {
        Told {
            node,
            term,
            link_session: 10 + node.0,
        }
    }

    fn change(left: bool, broken: bool) -> Change {
        Change { left, broken }
    }

    #[test]
    fn a_leader_whose_link_is_gone_for_long_has_missed_events_whoever_comes_next() {
        let (mut topology, mut leaders, start) = (topology(), Leaders::default(), Instant::now());
        leaders.tell(told(A, 1), start);
        assert_eq!(leaders.look(&topology, SHARD, start), change(false, false));
        topology.link_sessions.remove(&A);
        assert_eq!(leaders.look(&topology, SHARD, start), change(true, true));
    }

    #[test]
    fn a_break_counts_until_some_time_after_the_successor_was_told() {
        let (mut topology, mut leaders, start) = (topology(), Leaders::default(), Instant::now());
        leaders.tell(told(A, 1), start);
        topology.lead(SHARD, B, 2);
        assert_eq!(leaders.look(&topology, SHARD, start), change(true, false));
        // The successor is told a minute later: only then the time begins.
        let later = start + Duration::from_secs(60);
        leaders.tell(told(B, 2), later);
        assert_eq!(leaders.look(&topology, SHARD, later), change(false, false));
        topology.link_sessions.remove(&A);
        let noticed = later + BREAK_NOTICED_WITHIN / 2;
        assert_eq!(leaders.look(&topology, SHARD, noticed), change(false, true));
        assert_eq!(
            leaders.look(&topology, SHARD, noticed),
            change(false, false)
        );
    }

    #[test]
    fn the_leader_before_the_last_is_not_forgotten() {
        let (mut topology, mut leaders, now) = (topology(), Leaders::default(), Instant::now());
        leaders.tell(told(A, 1), now);
        topology.lead(SHARD, B, 2);
        leaders.look(&topology, SHARD, now);
        leaders.tell(told(B, 2), now);
        topology.lead(SHARD, C, 3);
        leaders.look(&topology, SHARD, now);
        leaders.tell(told(C, 3), now);
        topology.link_sessions.remove(&A);
        assert_eq!(leaders.look(&topology, SHARD, now), change(false, true));
        topology.link_sessions.remove(&B);
        let over = now + BREAK_NOTICED_WITHIN;
        assert_eq!(leaders.look(&topology, SHARD, over), change(false, true));
        assert!(leaders.left.is_empty());
    }

    #[test]
    fn a_subscription_of_an_old_term_does_not_count_for_the_new_one() {
        let (mut topology, mut leaders, now) = (topology(), Leaders::default(), Instant::now());
        // B answers for its term 2; that it leads in term 3 again is heard of before the answer.
        topology.lead(SHARD, B, 3);
        leaders.tell(told(B, 2), now);
        assert_eq!(leaders.look(&topology, SHARD, now), change(true, false));
        leaders.tell(told(B, 3), now);
        assert_eq!(leaders.look(&topology, SHARD, now), change(false, false));
    }

    #[test]
    fn a_term_in_between_whose_leader_was_not_told_has_missed_events() {
        let (mut leaders, now) = (Leaders::default(), Instant::now());
        assert!(leaders.tell(told(A, 1), now), "the first of all");
        assert!(leaders.tell(told(B, 2), now));
        assert!(!leaders.tell(told(C, 4), now), "who led in term 3?");
        assert!(leaders.tell(told(C, 4), now), "told again");
        assert!(leaders.tell(told(B, 3), now), "an answer that came late");
        assert!(leaders.tell(told(A, 5), now));
    }

    #[test]
    fn a_child_watches_the_leaders_of_its_parent() {
        let (mut topology, mut parent, now) = (topology(), Leaders::default(), Instant::now());
        parent.tell(told(A, 1), now);
        let mut child = Leaders::default();
        child.inherit(&parent);
        topology.lead(ShardId(2), B, 1);
        child.tell(told(B, 1), now);
        topology.link_sessions.remove(&A);
        assert_eq!(child.look(&topology, ShardId(2), now), change(false, true));
    }
}
