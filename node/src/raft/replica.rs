//! The door to one shard's replica on this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{ClientWriteError, Fatal, InitializeError, RaftError as LibraryError};
use openraft::{ChangeMembers, EmptyNode, Raft};
use parlance_proto::ids::{NodeId, ShardId};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::RaftConfig;
use super::answers::Answers;
use super::election_turns::ElectionTurns;
use super::error::{MembershipError, ProposeError, RaftError};
use super::feed::Feed;
use super::log_store::LogStore;
use super::replica_watch::watch_replica;
use super::shard_rows::ReadRows;
use super::snapshot_folder::SnapshotFolder;
use super::state_machine::{ReplicaState, SnapshotByBytes};
use super::types::{Payload, TypeConfig};
use crate::machine::Outcome;
use crate::store::StoreError;
use crate::store::room::DiskRoom;

/// Who leads a shard, as this replica knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// Who leads in it; none if nobody does yet.
    pub leader: Option<NodeId>,
    /// Whether that is this replica.
    pub leading: bool,
}

/// An entry that was applied here.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Its place in the log.
    pub index: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// One shard's replica on this node. Clones are the same replica.
#[derive(Clone)]
pub struct Replica {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) id: ShardId,
    pub(super) node_id: NodeId,
    pub(super) raft: Raft<TypeConfig, ReplicaState>,
    pub(super) folder: SnapshotFolder,
    /// Whoever has this receives and installs: one snapshot at a time.
    pub(super) receiving: Arc<tokio::sync::Mutex<()>>,
    pub(super) log: LogStore,
    pub(super) answers: Arc<Answers>,
    pub(super) feed: Arc<Feed>,
    pub(super) turns: ElectionTurns,
    /// Before this a restarted replica neither votes nor stands: it does not remember to whom it promised not to.
    pub(super) quiet_until: Option<Instant>,
    pub(super) stop: CancellationToken,
    pub(super) room: DiskRoom,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) read_timeout: Duration,
    pub(super) lease: Duration,
    /// The newest term whose leadership this replica has offered to another: its lease proves nothing any more.
    pub(super) offered_term: AtomicU64,
}

/// What a replica is made of.
pub(super) struct ReplicaParts {
    pub(super) raft: Raft<TypeConfig, ReplicaState>,
    pub(super) feed: Arc<Feed>,
    pub(super) folder: SnapshotFolder,
    pub(super) log: LogStore,
    pub(super) answers: Arc<Answers>,
    pub(super) by_bytes: Arc<SnapshotByBytes>,
    /// Nothing is applied any more.
    pub(super) ended: CancellationToken,
    /// How long it neither votes nor stands; none if it never has.
    pub(super) quiet: Option<Duration>,
    pub(super) stop: CancellationToken,
    /// Where it says why it has stopped by itself.
    pub(super) stopped: watch::Sender<BTreeMap<ShardId, String>>,
    pub(super) room: DiskRoom,
}

impl Replica {
    pub(super) fn start(node_id: NodeId, config: &RaftConfig, parts: ReplicaParts) -> Self {
        let ReplicaParts {
            raft,
            feed,
            folder,
            log,
            answers,
            by_bytes,
            ended,
            quiet,
            stop,
            stopped,
            room,
        } = parts;
        let inner = Arc::new(Inner {
            id: feed.rows.shard,
            node_id,
            raft,
            folder,
            receiving: Arc::default(),
            log,
            answers,
            feed,
            turns: ElectionTurns::new(config.lease(), Instant::now()),
            quiet_until: quiet.map(|quiet| Instant::now() + quiet),
            stop,
            room,
            leadership: watch::Sender::new(Leadership::default()),
            read_timeout: config.lease() * 2,
            lease: config.lease(),
            offered_term: AtomicU64::new(0),
        });
        tokio::spawn(watch_replica(inner.clone(), by_bytes, ended, stopped));
        Self { inner }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Which shard.
    pub fn id(&self) -> ShardId {
        self.inner.id
    }

    /// Proposes an entry and waits until it is applied here. Not safe to cancel in the sense that the entry may be
    /// applied although nobody waits.
    pub async fn propose(&self, payload: Bytes) -> Result<Applied, ProposeError> {
        if self.stopped().is_some() {
            return Err(ProposeError::Stopped);
        }
        match self.inner.raft.client_write(Payload(payload)).await {
            Ok(response) => Ok(Applied {
                index: response.log_id.index,
                outcome: response.data,
            }),
            Err(LibraryError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(ProposeError::NotLeader {
                    leader: self.other(to.leader_id),
                })
            }
            // The entry was taken in: the next leader may have it too.
            Err(LibraryError::APIError(_) | LibraryError::Fatal(_)) => {
                Err(ProposeError::OutcomeUnknown)
            }
        }
    }

    /// The term that this replica is in at this moment.
    pub fn term(&self) -> u64 {
        self.inner.raft.metrics().borrow_watched().current_term
    }

    /// The room on the disk that it is on.
    pub fn room(&self) -> &DiskRoom {
        &self.inner.room
    }

    /// Cancelled when the replica has stopped, or is about to.
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// A leader to send callers to: never this replica itself, which has just said no.
    pub(super) fn other(&self, leader: Option<NodeId>) -> Option<NodeId> {
        leader.filter(|id| *id != self.inner.node_id)
    }

    /// Who leads, now and at every change.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// Makes a new shard of these voters. Does nothing if this replica has ever had an entry or a vote.
    pub async fn initialize(&self, voters: BTreeSet<NodeId>) -> Result<(), RaftError> {
        let members: BTreeMap<NodeId, EmptyNode> =
            voters.into_iter().map(|id| (id, EmptyNode {})).collect();
        match self.inner.raft.initialize(members).await {
            Ok(()) | Err(LibraryError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(e) => Err(RaftError::Start {
                shard: self.inner.id,
                reason: e.to_string(),
            }),
        }
    }

    /// Stands for election now instead of after a time without a leader. Does nothing if the others hear from one.
    pub async fn elect(&self) {
        if let Err(error) = self.inner.raft.trigger().elect(true).await {
            tracing::debug!(shard = %self.inner.id, %error, "no election");
        }
    }

    /// Whether this replica leads, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.inner.leadership.borrow().leading
    }

    /// Tells the others that this replica still leads.
    pub(super) async fn heartbeat(&self) {
        let _ = self.inner.raft.trigger().heartbeat().await; // stopped: it leads no more
    }

    /// Asks another voter to take over. Returns once asked; whether it did shows in [`Replica::leadership`].
    pub async fn transfer_leader(&self, to: NodeId) {
        let term = self.leadership().borrow().term;
        self.inner.offered_term.fetch_max(term, Ordering::SeqCst);
        if let Err(error) = self.inner.raft.trigger().transfer_leader(to).await {
            tracing::debug!(shard = %self.inner.id, %error, "leadership is not handed over");
        }
    }

    /// Adds a replica that learns. Does not wait for it: [`Replica::status`] says how far it is.
    pub async fn add_learner(&self, node: NodeId) -> Result<(), MembershipError> {
        self.changed(self.inner.raft.add_learner(node, EmptyNode {}, false).await)
    }

    /// Lets replicas go that only learned.
    pub async fn remove_learners(&self, nodes: BTreeSet<NodeId>) -> Result<(), MembershipError> {
        let change = ChangeMembers::RemoveNodes(nodes);
        self.changed(self.inner.raft.change_membership(change, false).await)
    }

    /// Changes who votes, by way of both sets together. New voters must be learners already; voters that are left out
    /// leave the shard.
    pub async fn change_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), MembershipError> {
        self.changed(self.inner.raft.change_membership(voters, false).await)
    }

    fn changed<T>(
        &self,
        result: Result<T, LibraryError<TypeConfig, ClientWriteError<TypeConfig>>>,
    ) -> Result<(), MembershipError> {
        match result {
            Ok(_) => Ok(()),
            Err(LibraryError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(MembershipError::NotLeader {
                    leader: self.other(to.leader_id),
                })
            }
            Err(LibraryError::APIError(e)) => Err(MembershipError::Refused(e.to_string())),
            Err(LibraryError::Fatal(_)) => Err(MembershipError::Stopped),
        }
    }

    fn stopped(&self) -> Option<Fatal<TypeConfig>> {
        self.inner
            .raft
            .metrics()
            .borrow_watched()
            .running_state
            .clone()
            .err()
    }

    /// Reads the rows at one place in the log. Blocks until `read` is done.
    ///
    /// # Errors
    /// A disk that failed, a damaged row, or what `read` answers: reported already.
    pub fn read_rows(&self, read: &mut ReadRows<'_>) -> Result<(), StoreError> {
        let rows = &self.inner.feed.rows;
        rows.view(read).inspect_err(|error| {
            rows.report(error);
        })
    }

    /// Somebody met this error when reading the rows. Answers whether the replica stops over it, and another leads: the rows
    /// are damaged, or could not be read for a while.
    pub fn report(&self, error: &StoreError) -> bool {
        self.inner.feed.rows.report(error)
    }

    /// Waits until this replica has applied the entry at `index`; false if that takes longer than `within`.
    pub async fn has_applied(&self, index: u64, within: Duration) -> bool {
        let wait = self.inner.raft.wait(Some(within));
        let applied = wait.applied_index_at_least(Some(index), "has_applied");
        applied.await.is_ok()
    }

    /// Makes a snapshot now, and lets go of the log that it replaces.
    pub async fn trigger_snapshot(&self) {
        let _ = self.inner.raft.trigger().snapshot().await; // stopped: nothing to make
    }

    /// Stops the replica; its log and rows stay. Returns when its tasks have ended.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(shard = %self.inner.id, %error, "the replica did not stop in good order");
        }
    }
}
