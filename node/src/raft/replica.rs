//! The door to one shard's replica on this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{
    ClientWriteError, Fatal, InitializeError, LinearizableReadError, RaftError as LibraryError,
};
use openraft::metrics::RaftServerMetrics;
use openraft::{ChangeMembers, EmptyNode, Raft, ReadPolicy, ServerState};
use parlance_proto::ids::{NodeId, ShardId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::election_turns::ElectionTurns;
use super::error::{MembershipError, ProposeError, RaftError, ReadError};
use super::feed::Feed;
use super::log_store::LogStore;
use super::shard_rows::ReadRows;
use super::snapshot_folder::SnapshotFolder;
use super::state_machine::{ReplicaState, SnapshotByBytes};
use super::types::{Payload, TypeConfig};
use super::{RaftConfig, metrics};
use crate::clock::Moment;
use crate::machine::Outcome;
use crate::store::StoreError;
use crate::store::room::DiskRoom;

/// Between looks at followers that are fed by snapshot.
const FEED_REVIEW: Duration = Duration::from_millis(500);

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

/// One shard's replica on this node. Clones are the same replica.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) id: ShardId,
    pub(super) node_id: NodeId,
    pub(super) raft: Raft<TypeConfig, ReplicaState>,
    pub(super) folder: SnapshotFolder,
    /// Whoever has this receives and installs: one snapshot at a time.
    pub(super) receiving: Arc<tokio::sync::Mutex<()>>,
    pub(super) log: LogStore,
    answers: Arc<Answers>,
    feed: Arc<Feed>,
    pub(super) turns: ElectionTurns,
    /// Before this a restarted replica neither votes nor stands: it does not remember to whom it promised not to.
    pub(super) quiet_until: Option<Instant>,
    pub(super) stop: CancellationToken,
    pub(super) room: DiskRoom,
    leadership: watch::Sender<Leadership>,
    read_timeout: Duration,
    lease: Duration,
    /// The newest term whose leadership this replica has offered to another: its lease proves nothing any more.
    offered_term: AtomicU64,
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

    /// A leader to send callers to: never this replica itself, which has just said no.
    fn other(&self, leader: Option<NodeId>) -> Option<NodeId> {
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

/// Follows one replica: publishes its leader, starts elections in its turn, makes snapshots by size, and looks after followers
/// that are fed. Says in `stopped` why the replica has stopped by itself, if it has.
async fn watch_replica(
    inner: Arc<Inner>,
    by_bytes: Arc<SnapshotByBytes>,
    ended: CancellationToken,
    stopped: watch::Sender<BTreeMap<ShardId, String>>,
) {
    let mut metrics = inner.raft.server_metrics();
    let mut led = false;
    loop {
        inner.publish(&metrics.borrow_watched());
        let leads = metrics.borrow_watched().state == ServerState::Leader;
        if std::mem::replace(&mut led, leads) && !leads {
            inner.turns.led(inner.node_id, Instant::now());
        }
        let turn = inner.turn(&metrics.borrow_watched());
        let feeds = !inner.feed.feeds_nobody();
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { break },
            () = inner.feed.rows.damaged() => break,
            () = by_bytes.due.notified() => {
                let _ = inner.raft.trigger().snapshot().await;
            }
            () = inner.feed.begun.notified() => {}
            () = tokio::time::sleep_until(turn.unwrap_or_else(Instant::now)), if turn.is_some() => {
                // The leader may have been heard meanwhile.
                if turn == inner.turn(&metrics.borrow_watched()) {
                    let voters = voters(&metrics.borrow_watched()).len();
                    inner.turns.took(u32::try_from(voters).unwrap_or(1), Instant::now());
                    let _ = inner.raft.trigger().elect(true).await;
                }
            }
            () = tokio::time::sleep(FEED_REVIEW), if feeds => {
                let status = Replica { inner: inner.clone() }.status();
                if inner.feed.review(&status.matched, status.last_log_index, Instant::now()) {
                    let _ = inner.raft.trigger().snapshot().await;
                }
            }
            () = inner.stop.cancelled() => break,
            // A bug, of which the library's own task hears nothing: it would go on leading.
            () = ended.cancelled() => break,
        }
    }
    inner.leadership.send_modify(|last| {
        *last = Leadership {
            term: last.term,
            leader: None,
            leading: false,
        }
    });
    if !inner.stop.is_cancelled() {
        let reason = Replica {
            inner: inner.clone(),
        }
        .status()
        .stopped;
        let reason = reason.unwrap_or_else(|| "its task ended".to_owned());
        tracing::error!(shard = %inner.id, reason, "a replica has stopped by itself");
        inner.stop.cancel();
        stopped.send_modify(|stopped| {
            stopped.insert(inner.id, reason);
            metrics::replicas_stopped(stopped.len());
        });
        // Perhaps its tasks never end: they are waited for last.
        if let Err(error) = inner.raft.shutdown().await {
            tracing::debug!(shard = %inner.id, %error, "the tasks of a stopped replica");
        }
    }
}

fn voters(metrics: &RaftServerMetrics<TypeConfig>) -> BTreeSet<NodeId> {
    let membership = metrics.membership_config.membership();
    membership.voter_ids().collect()
}

impl Inner {
    /// When to stand for election if no leader is heard before.
    fn turn(&self, metrics: &RaftServerMetrics<TypeConfig>) -> Option<Instant> {
        if metrics.state == ServerState::Leader {
            return None;
        }
        self.turns.next(self.id, self.node_id, &voters(metrics))
    }

    fn publish(&self, metrics: &RaftServerMetrics<TypeConfig>) {
        let leading =
            metrics.state == ServerState::Leader && metrics.current_leader == Some(self.node_id);
        let now = Leadership {
            term: metrics.vote.leader_id.term,
            leader: metrics.current_leader,
            leading,
        };
        self.leadership.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}
