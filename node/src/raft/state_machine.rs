//! Committed entries to a shard's [`StateMachine`] and its rows.
//!
//! Whatever is ready is one batch: one set of rows, with the applied log id in it, and then the answers. A restart
//! finds the applied log id among the rows and goes on behind it. Rows go into memory at once; what the store would make
//! wait for its disk waits beside the threads that carry Raft's timers.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::type_config::alias::SnapshotOf;
use parking_lot::Mutex;
use parlance_proto::store::v1::AppliedState;
use prost::Message;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::feed::Feed;
use super::retry::until_it_works;
use super::snapshot::{SnapshotBuilder, SnapshotData};
use super::snapshot_folder::SnapshotFolder;
use super::types::{EntryPayload, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use super::{convert, metrics, snapshot_receive, snapshot_send};
use crate::machine::{CommittedEntry, Replicas, StateMachine};
use crate::sabotage::{CrashPoint, Switch, crash_point, one_in};
use crate::store::{RowRange, StoreError, Table, WriteBatch, key};

/// Entries applied as one batch.
const BATCH_ENTRIES_MAX: usize = 512;
/// Bytes of entries after which a batch takes no more.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// A store that refuses a write is asked again for this long before the process ends.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
const WRITE_PAUSE: Duration = Duration::from_millis(500);

/// Says when enough bytes were applied for a snapshot.
#[derive(Debug)]
pub(super) struct SnapshotByBytes {
    bytes: AtomicU64,
    bytes_max: u64,
    pub(super) due: Notify,
}

impl SnapshotByBytes {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            bytes_max,
            due: Notify::new(),
        }
    }

    /// The log is long already: the next new entry makes a snapshot due.
    pub(super) fn is_long_already(&self) {
        self.bytes.store(self.bytes_max, Ordering::Relaxed);
    }

    fn applied(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) >= self.bytes_max {
            self.bytes.store(0, Ordering::Relaxed);
            self.due.notify_one();
        }
    }
}

/// What ends.
pub struct Ends {
    /// The replica is to.
    pub(super) stop: CancellationToken,
    /// Why the process must.
    pub(super) process: watch::Sender<Option<String>>,
    /// Whoever has one of these waits for the store to take rows again.
    pub(super) waiting: Weak<()>,
}

/// A shard's rows as the Raft library sees them.
pub struct ReplicaState {
    feed: Arc<Feed>,
    // A mutex only because the library wants `Sync`; nobody contends for it.
    machine: Mutex<Box<dyn StateMachine>>,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// The members above, as the machine is told.
    replicas: Arc<Replicas>,
    /// What the applied id and the members are on disk.
    row: AppliedState,
    folder: SnapshotFolder,
    by_bytes: Arc<SnapshotByBytes>,
    ends: Ends,
    /// The library drops this state when its task ends, by a panic too.
    _ended: DropGuard,
}

impl ReplicaState {
    /// `ended` is cancelled once nothing is applied any more.
    pub(super) fn open(
        feed: Arc<Feed>,
        machine: Box<dyn StateMachine>,
        folder: SnapshotFolder,
        by_bytes: Arc<SnapshotByBytes>,
        ends: Ends,
        ended: DropGuard,
    ) -> io::Result<Self> {
        let mut state = Self {
            feed,
            machine: Mutex::new(machine),
            applied: None,
            membership: StoredMembership::default(),
            replicas: Arc::default(),
            row: AppliedState::default(),
            folder,
            by_bytes,
            ends,
            _ended: ended,
        };
        state.read_applied()?;
        Ok(state)
    }

    pub(super) fn applied(&self) -> Option<LogId> {
        self.applied
    }

    fn read_applied(&mut self) -> io::Result<()> {
        let row = self.feed.rows.applied().map_err(io::Error::other)?;
        self.membership = convert::to_stored_membership(&row).map_err(io::Error::other)?;
        self.replicas = replicas(&self.membership);
        self.applied = row.applied.as_ref().map(convert::to_log_id);
        self.row = row;
        Ok(())
    }

    async fn apply_batch(
        &mut self,
        batch: Vec<EntryResponder<TypeConfig>>,
    ) -> Result<(), StoreError> {
        let mut bytes = 0;
        let (mut entries, mut responders) = (
            Vec::with_capacity(batch.len()),
            Vec::with_capacity(batch.len()),
        );
        for (entry, responder) in batch {
            self.applied = Some(entry.log_id);
            let payload = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(_) if one_in(200, Switch::SkipEntries) => None,
                EntryPayload::Normal(payload) => Some(payload.0),
                EntryPayload::Membership(members) => {
                    self.change_members(StoredMembership::new(Some(entry.log_id), members));
                    None
                }
            };
            bytes += payload.as_ref().map_or(0, |payload| payload.len() as u64);
            entries.push(CommittedEntry {
                index: entry.log_id.index,
                term: entry.log_id.leader_id.term,
                payload,
                replicas: self.replicas.clone(),
            });
            responders.push(responder);
        }
        let mut write = WriteBatch::default();
        let applied = self.machine.get_mut().apply(&entries, &mut write);
        // The machine may be half-way: it cannot read again what it could not read.
        let outcomes = applied.inspect_err(|error| self.feed.rows.report_at_once(error))?;
        if outcomes.len() != entries.len() {
            let reason = format!("{} outcomes for {} entries", outcomes.len(), entries.len());
            return Err(StoreError::Damaged {
                what: format!("apply of shard {}", self.feed.rows.shard),
                reason,
            });
        }
        self.row.applied = self.applied.as_ref().map(convert::log_id);
        write.put(
            Table::Meta,
            key::applied(self.feed.rows.shard),
            self.row.encode_to_vec(),
        );
        crash_point(CrashPoint::BeforeApply);
        self.write(write).await?;
        crash_point(CrashPoint::AfterApply);
        // Before the answers: whoever has one may rely on all that it changed.
        self.machine.get_mut().written();
        for (responder, outcome) in responders.into_iter().zip(outcomes) {
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        // Of what was known at the start the library makes no new snapshot.
        if self.feed.is_new(self.applied.map_or(0, |id| id.index)) {
            self.by_bytes.applied(bytes);
        }
        Ok(())
    }

    fn change_members(&mut self, membership: StoredMembership) {
        let (log_id, members) = convert::stored_membership(&membership);
        self.row.membership_log_id = log_id;
        self.row.membership = Some(members);
        self.replicas = replicas(&membership);
        self.membership = membership;
    }

    async fn write(&mut self, batch: WriteBatch) -> Result<(), StoreError> {
        let ranges = self.machine.get_mut().ranges();
        let on_disk_first = batch.is_on_disk_first();
        // An error is met again below.
        if !matches!(self.feed.rows.try_write(&batch, &ranges), Ok(true)) {
            self.write_beside(batch, ranges).await?;
        }
        if on_disk_first {
            crash_point(CrashPoint::InSplit);
            let (shard, store) = (self.feed.rows.shard, self.feed.rows.store.clone());
            let flush = move || store.flush();
            let stop = &self.ends.stop;
            let flushed = until_it_works("flush of new rows", shard, stop, flush).await;
            crash_point(CrashPoint::AfterSplit);
            return flushed.unwrap_or(Err(StoreError::Stopped));
        }
        Ok(())
    }

    /// On another thread, until the store takes it.
    async fn write_beside(
        &mut self,
        batch: WriteBatch,
        ranges: Arc<[RowRange]>,
    ) -> Result<(), StoreError> {
        let (rows, batch) = (self.feed.rows.clone(), Arc::new(batch));
        let write = async || {
            let (rows, batch, ranges) = (rows.clone(), batch.clone(), ranges.clone());
            let written = tokio::task::spawn_blocking(move || rows.write(&batch, ranges)).await;
            written.unwrap_or(Err(StoreError::Stopped)) // cut off only when the process ends
        };
        let started = Instant::now();
        let mut waiting = None;
        while let Err(error) = write().await {
            // A full disk may be emptied by and by, and then RocksDB goes on by itself.
            let patient = error.is_full() || started.elapsed() < WRITE_PATIENCE;
            if !patient || error.is_damage() || self.ends.stop.is_cancelled() {
                return Err(error);
            }
            tracing::error!(shard = %self.feed.rows.shard, %error, "rows are not written, and are tried again");
            metrics::disk_failure();
            waiting = waiting.or_else(|| self.ends.waiting.upgrade());
            sleep(WRITE_PAUSE).await;
        }
        Ok(())
    }

    fn builder(&self) -> SnapshotBuilder {
        SnapshotBuilder {
            meta: self.meta(),
            feed: self.feed.clone(),
            stop: self.ends.stop.clone(),
        }
    }

    /// The replica stops. If it is the disk that takes no rows, the process has to end: RocksDB takes no more writes until it
    /// is opened again, for any shard.
    fn give_up(&self, error: &StoreError) {
        let shard = self.feed.rows.shard;
        tracing::error!(%shard, %error, "committed entries cannot be applied: the replica stops");
        let rows = &self.feed.rows;
        let is_known = rows.report_damage(error) || rows.damage().is_some();
        if is_known || self.ends.stop.is_cancelled() || !error.is_failure() {
            return;
        }
        self.ends.process.send_if_modified(|reason| {
            let first = reason.is_none();
            reason.get_or_insert_with(|| {
                format!("the {error}. Look at the disk, then start the node again")
            });
            first
        });
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        }
    }
}

fn replicas(membership: &StoredMembership) -> Arc<Replicas> {
    let membership = membership.membership();
    Arc::new(Replicas {
        voters: membership.voter_ids().collect(),
        learners: membership.learner_ids().collect(),
        joint: membership.get_joint_config().len() > 1,
    })
}

impl RaftStateMachine<TypeConfig> for ReplicaState {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut entries = entries.fuse(); // asked again after its end, below
        while let Some(first) = entries.next().await {
            let mut batch = vec![first?];
            let mut bytes = 0;
            while batch.len() < BATCH_ENTRIES_MAX && bytes < BATCH_BYTES_MAX {
                let Some(Some(entry)) = entries.next().now_or_never() else {
                    break;
                };
                let entry = entry?;
                if let EntryPayload::Normal(payload) = &entry.0.payload {
                    bytes += payload.0.len();
                }
                batch.push(entry);
            }
            if let Err(error) = self.apply_batch(batch).await {
                self.give_up(&error);
                return Err(io::Error::other(error));
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        let index = self.applied.map_or(0, |id| id.index);
        (force || self.feed.may_make(index)).then(|| self.builder())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.builder()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let received = match snapshot {
            SnapshotData::Received(received) => received,
            // Another replica's rows in this process: only the library's own tests do that.
            SnapshotData::Rows(rows) => {
                let (header, chunks) = snapshot_send::read(rows).await?;
                let folder = self.folder.clone();
                let receive = move || snapshot_receive::receive(&folder, &header, chunks);
                tokio::task::spawn_blocking(receive)
                    .await
                    .map_err(io::Error::other)??
            }
        };
        crash_point(CrashPoint::BeforeSnapshotInstall);
        let store = self.feed.rows.store.clone();
        let old = self.machine.get_mut().ranges();
        self.folder
            .install(store, received, &old, &self.ends.stop)
            .await?;
        crash_point(CrashPoint::AfterSnapshotInstall);
        self.read_applied()?;
        let machine = self.machine.get_mut();
        machine.restored().map_err(io::Error::other)?;
        self.feed.rows.moved(machine.ranges());
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        Ok(self.applied.map(|_| Snapshot {
            meta: self.meta(),
            snapshot: SnapshotData::Rows(self.feed.rows.clone()),
        }))
    }
}
