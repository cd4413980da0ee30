//! How a replica is, for whoever places replicas, measures them, or shows them.

use std::collections::{BTreeMap, BTreeSet};

use openraft::async_runtime::watch::WatchReceiver;
use parlance_proto::ids::NodeId;

use super::replica::Replica;

/// How a replica is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Its term.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// Those that vote, of both sets while they change.
    pub voters: BTreeSet<NodeId>,
    /// Those that only learn.
    pub learners: BTreeSet<NodeId>,
    /// Voters and learners are committed, and so stay whoever leads next.
    pub members_committed: bool,
    /// Index of the last applied entry; 0 if there is none.
    pub applied: u64,
    /// Index of the newest entry here; 0 if there is none.
    pub last_log_index: u64,
    /// Index of the newest entry in the newest snapshot; 0 if there is none.
    pub snapshot: u64,
    /// Index of the newest entry that is no longer in the log; 0 if there is none.
    pub purged: u64,
    /// While leading: the newest entry that each replica is known to have.
    pub matched: BTreeMap<NodeId, u64>,
    /// Why the replica has stopped, if it has.
    pub stopped: Option<String>,
}

impl ReplicaStatus {
    /// While leading: how many entries a replica lacks; none if that is not known.
    pub fn behind(&self, node: NodeId) -> Option<u64> {
        let matched = self.matched.get(&node)?;
        Some(self.last_log_index.saturating_sub(*matched))
    }
}

impl Replica {
    /// How the replica is.
    pub fn status(&self) -> ReplicaStatus {
        let damage = self.inner.feed.rows.damage();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: &Option<super::types::LogId>| id.map_or(0, |id| id.index);
        let membership = metrics.membership_config.membership();
        ReplicaStatus {
            term: metrics.current_term,
            leader: metrics.current_leader,
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            members_committed: membership.get_joint_config().len() == 1
                && *metrics.membership_config.log_id() <= metrics.last_applied,
            applied: index(&metrics.last_applied),
            last_log_index: metrics.last_log_index.unwrap_or(0),
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            matched: metrics
                .replication
                .iter()
                .flatten()
                .map(|(node, id)| (*node, index(id)))
                .collect(),
            stopped: damage.or_else(|| {
                metrics
                    .running_state
                    .as_ref()
                    .err()
                    .map(ToString::to_string)
            }),
        }
    }
}
