//! What the cluster map wants of a shard's replicas, and how far they are from it.

use std::collections::BTreeSet;

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::store::v1::MapNode;

use crate::meta::MetaState;
use crate::raft::ReplicaStatus;

/// Entries that a replica may be behind its leader and still be as good as there.
const NEAR: u64 = 256;

/// What the map wants of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The preferred leader first.
    pub(super) voters: Vec<NodeId>,
    /// Those that only learn.
    pub(super) learners: BTreeSet<NodeId>,
}

/// What to do next for a shard that is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// These begin to learn.
    AddLearners(Vec<NodeId>),
    /// These learn still: nothing to do but wait.
    Wait(Vec<NodeId>),
    /// These vote from now on, and nobody else.
    ChangeVoters(BTreeSet<NodeId>),
    /// These have no part in the shard any more.
    RemoveLearners(BTreeSet<NodeId>),
}

impl Wanted {
    /// None if the map does not have the shard.
    pub(super) fn of(state: &MetaState, shard: ShardId) -> Option<Self> {
        if shard != ShardId::META {
            return Some(Self {
                voters: state.shard(shard)?.voters().collect(),
                learners: BTreeSet::new(),
            });
        }
        // Every member reads the cluster map, so those that do not vote learn.
        let voters = state.map()?.meta_replicas.iter();
        let voters: Vec<NodeId> = voters.copied().map(NodeId).collect();
        let members = state.members().map(MapNode::id);
        let learners = members.filter(|id| !voters.contains(id)).collect();
        Some(Self { voters, learners })
    }

    /// What makes the shard more like it is wanted; none if it is.
    pub(super) fn step(&self, status: &ReplicaStatus) -> Option<Step> {
        let voters: BTreeSet<NodeId> = self.voters.iter().copied().collect();
        let missing: Vec<NodeId> = voters
            .union(&self.learners)
            .filter(|id| !status.voters.contains(id) && !status.learners.contains(id))
            .copied()
            .collect();
        if !missing.is_empty() {
            return Some(Step::AddLearners(missing));
        }
        if voters != status.voters {
            let learning = voters.difference(&status.voters).copied();
            let far: Vec<NodeId> = learning.filter(|id| !is_near(status, *id)).collect();
            return Some(if far.is_empty() {
                Step::ChangeVoters(voters)
            } else {
                Step::Wait(far)
            });
        }
        let extra: BTreeSet<NodeId> = status
            .learners
            .difference(&self.learners)
            .copied()
            .collect();
        (!extra.is_empty()).then_some(Step::RemoveLearners(extra))
    }
}

/// Whether a replica has nearly all of its leader's log, as the leader knows; one that has nothing is never near.
pub(super) fn is_near(status: &ReplicaStatus, node: NodeId) -> bool {
    let matched = status.matched.get(&node).copied().unwrap_or(0);
    matched > 0 && matched + NEAR >= status.last_log_index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<T: FromIterator<NodeId>>(ids: &[u64]) -> T {
        ids.iter().copied().map(NodeId).collect()
    }

    fn wanted(voters: &[u64]) -> Wanted {
        Wanted {
            voters: ids(voters),
            learners: BTreeSet::new(),
        }
    }

    fn status(voters: &[u64], learners: &[u64], matched: &[(u64, u64)]) -> ReplicaStatus {
        let matched = matched.iter().map(|(id, index)| (NodeId(*id), *index));
        ReplicaStatus {
            voters: ids(voters),
            learners: ids(learners),
            matched: matched.collect(),
            last_log_index: 1_000,
            ..ReplicaStatus::default()
        }
    }

    #[test]
    fn a_new_replica_learns_votes_when_it_is_near_and_then_the_old_one_goes() {
        let wanted = wanted(&[4, 2, 3]);
        assert_eq!(
            wanted.step(&status(&[1, 2, 3], &[], &[])),
            Some(Step::AddLearners(ids(&[4])))
        );
        for far in [&[][..], &[(4, 0)], &[(4, 700)]] {
            let status = status(&[1, 2, 3], &[4], far);
            assert_eq!(wanted.step(&status), Some(Step::Wait(ids(&[4]))), "{far:?}");
        }
        assert_eq!(
            wanted.step(&status(&[1, 2, 3], &[4], &[(4, 900)])),
            Some(Step::ChangeVoters(ids(&[2, 3, 4])))
        );
        assert_eq!(wanted.step(&status(&[2, 3, 4], &[], &[])), None);
    }

    #[test]
    fn a_replica_without_entries_is_not_near_in_a_short_log() {
        let status = ReplicaStatus {
            last_log_index: 5,
            ..status(&[1], &[2], &[(2, 0)])
        };
        assert!(!is_near(&status, NodeId(2)));
    }

    #[test]
    fn a_learner_that_nobody_wants_any_more_is_removed() {
        assert_eq!(
            wanted(&[1, 2]).step(&status(&[1, 2], &[5], &[(5, 1_000)])),
            Some(Step::RemoveLearners(ids(&[5])))
        );
    }
}
