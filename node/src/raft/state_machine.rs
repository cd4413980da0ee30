//! Committed entries to a group's [`StateMachine`] and its rows.
//!
//! Whatever is ready is one batch: one set of rows, with the applied log id in it, and then the answers. A restart
//! finds the applied log id among the rows and goes on behind it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{FutureExt, Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::type_config::alias::SnapshotOf;
use parking_lot::Mutex;
use parlance_proto::shard::Group;
use parlance_proto::store::v1::AppliedState;
use prost::Message;
use tokio::sync::Notify;

use super::convert;
use super::purge_gate::applied_state;
use super::snapshot::{SnapshotBuilder, SnapshotFiles, SnapshotFolder};
use super::types::{EntryPayload, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use super::{CommittedEntry, StateMachine};
use crate::store::{StateStore, StoreError, Table, WriteSet, key};

/// Entries applied as one batch.
const BATCH_ENTRIES_MAX: usize = 512;
/// Bytes of entries after which a batch takes no more.
const BATCH_BYTES_MAX: usize = 4 << 20;

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

    fn applied(&self, bytes: u64) {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= self.bytes_max {
            self.bytes.store(0, Ordering::Relaxed);
            self.due.notify_one();
        }
    }
}

/// A group's rows as the Raft library sees them.
pub struct GroupState {
    group: Group,
    store: Arc<dyn StateStore>,
    // A mutex only because the library wants `Sync`; nobody contends for it.
    machine: Mutex<Box<dyn StateMachine>>,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// What the two above are on disk.
    row: AppliedState,
    folder: SnapshotFolder,
    by_bytes: Arc<SnapshotByBytes>,
}

impl GroupState {
    pub(super) fn open(
        group: Group,
        store: Arc<dyn StateStore>,
        machine: Box<dyn StateMachine>,
        folder: SnapshotFolder,
        by_bytes: Arc<SnapshotByBytes>,
    ) -> io::Result<Self> {
        let mut state = Self {
            group,
            store,
            machine: Mutex::new(machine),
            applied: None,
            membership: StoredMembership::default(),
            row: AppliedState::default(),
            folder,
            by_bytes,
        };
        state.read_applied()?;
        Ok(state)
    }

    pub(super) fn applied(&self) -> Option<LogId> {
        self.applied
    }

    fn read_applied(&mut self) -> io::Result<()> {
        let row = applied_state(&*self.store, self.group).map_err(io::Error::other)?;
        self.membership = convert::to_stored_membership(&row).map_err(io::Error::other)?;
        self.applied = row.applied.as_ref().map(convert::to_log_id);
        self.row = row;
        Ok(())
    }

    fn apply_batch(&mut self, batch: Vec<EntryResponder<TypeConfig>>) -> Result<(), StoreError> {
        let mut bytes = 0;
        let (mut entries, mut responders) = (
            Vec::with_capacity(batch.len()),
            Vec::with_capacity(batch.len()),
        );
        let (mut applied, mut membership) = (self.applied, None);
        for (entry, responder) in batch {
            applied = Some(entry.log_id);
            let payload = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(payload) => Some(payload.0),
                EntryPayload::Membership(members) => {
                    membership = Some(StoredMembership::new(Some(entry.log_id), members));
                    None
                }
            };
            bytes += payload.as_ref().map_or(0, |payload| payload.len() as u64);
            entries.push(CommittedEntry {
                index: entry.log_id.index,
                term: entry.log_id.leader_id.term,
                payload,
            });
            responders.push(responder);
        }
        let machine = self.machine.get_mut();
        let mut write = WriteSet::default();
        let outcomes = machine.apply(&entries, &mut write)?;
        if outcomes.len() != entries.len() {
            let reason = format!("{} outcomes for {} entries", outcomes.len(), entries.len());
            return Err(StoreError::Damaged {
                what: format!("apply of group {}", self.group),
                reason,
            });
        }
        self.row.applied = applied.as_ref().map(convert::log_id);
        if let Some(membership) = &membership {
            let (log_id, members) = convert::stored_membership(membership);
            self.row.membership_log_id = log_id;
            self.row.membership = Some(members);
        }
        write.put(
            Table::Meta,
            key::applied_key(self.group),
            self.row.encode_to_vec(),
        );
        self.store.write(write)?;
        self.applied = applied;
        self.membership = membership.unwrap_or(std::mem::take(&mut self.membership));
        for (responder, outcome) in responders.into_iter().zip(outcomes) {
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        machine.written();
        self.by_bytes.applied(bytes);
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for GroupState {
    type SnapshotData = SnapshotFiles;
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
            if let Err(error) = self.apply_batch(batch) {
                tracing::error!(group = self.group, %error, "committed entries cannot be applied: the replica stops");
                return Err(io::Error::other(error));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            group: self.group,
            store: self.store.clone(),
            folder: self.folder.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: SnapshotFiles,
    ) -> io::Result<()> {
        let (folder, store) = (self.folder.clone(), self.store.clone());
        let install = move || {
            let files = folder.adopt(snapshot)?;
            folder.install(&*store, &files)?;
            folder.keep_only(&files.dir)
        };
        tokio::task::spawn_blocking(install)
            .await
            .map_err(io::Error::other)??;
        self.read_applied()?;
        self.machine.get_mut().restored().map_err(io::Error::other)
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotFiles>>> {
        let folder = self.folder.clone();
        let newest = tokio::task::spawn_blocking(move || folder.newest())
            .await
            .map_err(io::Error::other)??;
        newest
            .map(|files| {
                Ok(Snapshot {
                    meta: files.meta()?,
                    snapshot: files,
                })
            })
            .transpose()
    }
}
