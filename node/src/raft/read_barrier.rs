//! How a leader proves that it still leads, before it answers a read.

use std::sync::atomic::Ordering;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{LinearizableReadError, RaftError as LibraryError};
use openraft::{ReadPolicy, ServerState};
use tokio::time::timeout;

use super::error::ReadError;
use super::replica::Replica;
use crate::clock::Moment;

impl Replica {
    /// Returns when everything that was acknowledged before the call is applied here and this replica leads: by its
    /// lease, or by asking the others. The lease is of a clock that goes on while the process is frozen or the machine sleeps.
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        if self.holds_lease() && self.try_barrier(ReadPolicy::LeaseRead).await.is_ok() {
            return Ok(());
        }
        let asked = Moment::now();
        self.try_barrier(ReadPolicy::ReadIndex).await?;
        // The library may have taken an answer to an older request for one.
        let confirmed = async {
            loop {
                let counted = self.inner.answers.counted();
                if self.believed_until().is_some_and(|(_, at)| at >= asked) {
                    return;
                }
                counted.await;
            }
        };
        timeout(self.inner.read_timeout, confirmed)
            .await
            .map_err(|_| ReadError::NotLeader { leader: None })
    }

    /// Its term, and the last moment at which a majority surely took this replica for the leader of it; none if there was
    /// none, or if it does not lead.
    fn believed_until(&self) -> Option<(u64, Moment)> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let own = self.inner.node_id;
        let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(own);
        let voters = metrics.membership_config.membership().get_joint_config();
        let (answers, now) = (&self.inner.answers, Moment::now());
        let term = metrics.current_term;
        let until = answers.majority(term, own, voters, now).filter(|_| leads)?;
        Some((term, until))
    }

    /// Whether this replica surely leads at this moment: a majority has answered it well within its lease, and it has
    /// not offered its leadership to another. False is no proof of the opposite. Asks nobody, not even the shard's task.
    pub fn holds_lease(&self) -> bool {
        let is_offered = |term| self.inner.offered_term.load(Ordering::SeqCst) >= term;
        let believed = self.believed_until();
        believed.is_some_and(|(term, until)| {
            until.elapsed() < self.inner.lease / 2 && !is_offered(term)
        })
    }

    async fn try_barrier(&self, policy: ReadPolicy) -> Result<(), ReadError> {
        let barrier = self.inner.raft.ensure_linearizable(policy);
        let result = timeout(self.inner.read_timeout, barrier)
            .await
            .map_err(|_| ReadError::NotLeader { leader: None })?;
        match result {
            Ok(_) => Ok(()),
            Err(LibraryError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(ReadError::NotLeader {
                    leader: self.other(to.leader_id),
                })
            }
            Err(LibraryError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ReadError::NotLeader { leader: None })
            }
            Err(LibraryError::Fatal(_)) => Err(ReadError::Stopped),
        }
    }
}
