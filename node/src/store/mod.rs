//! The state of all shards of a node: tables of rows, whose keys begin with a slot, a day or a shard (`key.rs`).
//!
//! This folder is the only place that knows a byte of a key. [`StateStore`] is a seam: RocksDB in production
//! ([`rocks`]), memory with a model of lost writes in a later simulation.
//!
//! Writes are atomic and, on purpose, in memory only until they fill it: the Raft log is synced, is purged only behind
//! what is durable here, and is replayed from there after a crash.

#[cfg(test)]
pub(crate) mod faulty;
mod figures;
mod flushes;
pub mod folder;
pub mod key;
pub mod manifest;
pub mod rocks;
pub mod room;
mod row_files;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

pub use figures::StoreFigures;
pub use row_files::{RowFile, RowFileOptions, RowFiles};

/// A column family. The names are on disk and in snapshots: never rename one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Conversation events by seq.
    Events,
    /// Heads of conversations.
    Conversations,
    /// Read positions by conversation and user.
    Members,
    /// Conversation lists by user.
    Users,
    /// What was stored under a client message id, by day.
    Dedup,
    /// What must reach other shards, by number.
    Outbox,
    /// One-row things: a shard's applied log id and membership, shard state, the cluster map, apps.
    Meta,
}

impl Table {
    /// All tables, in the order of a snapshot's files.
    pub const ALL: [Table; 7] = [
        Table::Events,
        Table::Conversations,
        Table::Members,
        Table::Users,
        Table::Dedup,
        Table::Outbox,
        Table::Meta,
    ];

    /// The name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Table::Events => "events",
            Table::Conversations => "conversations",
            Table::Members => "members",
            Table::Users => "users",
            Table::Dedup => "dedup",
            Table::Outbox => "outbox",
            Table::Meta => "meta",
        }
    }

    /// The table of a name on disk.
    pub fn by_name(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|t| t.name() == name)
    }
}

/// Rows of one table from a key, inclusive, to another, exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRange {
    /// Whose rows.
    pub table: Table,
    /// The first key.
    pub from: Vec<u8>,
    /// The key behind the last.
    pub to: Vec<u8>,
}

/// One change of a [`WriteBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a row.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Removes a row.
    Delete(Table, Vec<u8>),
    /// Removes the rows from the first key, inclusive, to the second, exclusive.
    DeleteRange(Table, Vec<u8>, Vec<u8>),
}

/// Changes that become visible and durable together or not at all.
#[derive(Debug, Default)]
pub struct WriteBatch {
    changes: Vec<Change>,
    on_disk_first: bool,
}

impl WriteBatch {
    /// Sets a row.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push(Change::Put(table, key, value));
    }

    /// Removes a row.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.changes.push(Change::Delete(table, key));
    }

    /// Removes a range of rows, `from` inclusive, `to` exclusive.
    pub fn delete_range(&mut self, table: Table, from: Vec<u8>, to: Vec<u8>) {
        self.changes.push(Change::DeleteRange(table, from, to));
    }

    /// Whoever writes this flushes before anybody hears of it.
    pub fn put_on_disk_first(&mut self) {
        self.on_disk_first = true;
    }

    /// Whether it is to be flushed before anybody hears of it.
    pub fn is_on_disk_first(&self) -> bool {
        self.on_disk_first
    }

    /// The changes in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// Why the store failed: disks, not requests.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// RocksDB refused or failed.
    #[error("state store: {0}")]
    Rocks(#[from] rocksdb::Error),
    /// A file operation failed.
    #[error("state store: {path}: {source}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// A row or file is there but cannot be what it should be.
    #[error("state store: damaged {what}: {reason}")]
    Damaged {
        /// Which row or file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The replica stopped before it was done.
    #[error("state store: the replica stops")]
    Stopped,
    /// A newer program made what is to be applied: going on without it would part this replica from the others.
    #[error(
        "feature level {level} is needed, which this program does not speak: start the version that the cluster runs"
    )]
    NeedsNewerVersion {
        /// The level.
        level: u32,
    },
}

impl StoreError {
    /// What is on the disk is not what was written: trying again is no use.
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Rocks(e) => e.kind() == rocksdb::ErrorKind::Corruption,
            StoreError::Damaged { .. } => true,
            _ => false,
        }
    }

    /// The disk has no room, but may have some again.
    pub fn is_full(&self) -> bool {
        match self {
            StoreError::Rocks(e) => e.as_ref().contains("No space left on device"),
            StoreError::File { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// The disk failed, with nothing known to be damaged.
    pub fn is_failure(&self) -> bool {
        matches!(self, StoreError::Rocks(_) | StoreError::File { .. }) && !self.is_damage()
    }
}

/// Reads a row; `what` names it in the error.
pub fn decode<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|e| StoreError::Damaged {
        what: what.to_owned(),
        reason: e.to_string(),
    })
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the first key up.
    Ascending,
    /// From the last key down.
    Descending,
}

/// The store as it was at one moment.
pub trait StoreView {
    /// One row.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Calls `visit` with the rows of a range in order until it answers false. Reads past the block cache.
    fn scan(
        &self,
        range: &RowRange,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError>;
}

/// Reads a [`StoreView`].
pub type ReadView<'a> = dyn FnMut(&dyn StoreView) -> Result<(), StoreError> + 'a;

/// Rows of all shards of a node. Calls block on the disk for a short time.
pub trait StateStore: Send + Sync + 'static {
    /// One row.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Several rows of a table, in the order of `keys`; cheaper than one after the other.
    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().map(|key| self.get(table, key)).collect()
    }

    /// One row as it would be there after a power cut at this moment.
    fn get_durable(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Calls `visit` with the rows of `from..to` (the end exclusive) in order until it answers false.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError>;

    /// Writes all changes or none; readable at once, durable after the next [`StateStore::flush`].
    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError>;

    /// As [`StateStore::write`], unless it would have to wait for the disk: then nothing is written, and the answer is false.
    fn try_write(&self, batch: &WriteBatch) -> Result<bool, StoreError> {
        self.write(batch).map(|()| true)
    }

    /// Makes every write so far durable (fsync). Slow: rows go from memory to files.
    fn flush(&self) -> Result<(), StoreError>;

    /// How it is. Quick, but may wait for the database.
    fn figures(&self) -> StoreFigures {
        StoreFigures::default()
    }

    /// Calls `read` with the store as it is now. Files that are no longer needed stay on disk until `read` returns.
    fn view(&self, read: &mut ReadView<'_>) -> Result<(), StoreError>;

    /// Replaces all rows of `ranges` by those of `files`, which are in `dir` and stay there; durable on return.
    /// A failure or crash in between is mended by calling it again with the same files.
    fn import(&self, ranges: &[RowRange], dir: &Path, files: &[RowFile]) -> Result<(), StoreError>;
}

/// Reads rows beside the tasks: a disk that is silent, even one that only syncs, keeps who reads waiting, and must stop nobody else.
pub async fn beside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or(Err(StoreError::Stopped)) // cut off only when the process ends
}
