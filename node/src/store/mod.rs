//! The state of all groups of a node: tables of rows, each key starting with its group.
//!
//! This folder is the only place that knows a byte of a key. [`StateStore`] is a seam: RocksDB in production
//! ([`rocks`]), memory with a model of lost writes in a later simulation.
//!
//! Writes are atomic and, on purpose, in memory only until they fill it: the Raft log is synced, is purged only behind
//! what is durable here, and is replayed from there after a crash.

pub mod key;
pub mod manifest;
pub mod rocks;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parlance_proto::shard::Group;

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
    /// One-row things: a group's applied log id and membership, shard state, the cluster map, apps.
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

/// One change of a [`WriteSet`].
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
pub struct WriteSet {
    changes: Vec<Change>,
}

impl WriteSet {
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

    /// The changes in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// Why the store failed. All of these stop the replica: they are disks, not requests.
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
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the first key up.
    Rising,
    /// From the last key down.
    Falling,
}

/// A file of an exported group: one table's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedFile {
    /// Whose rows.
    pub table: Table,
    /// File name inside the export's folder.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// CRC-32C of the whole file.
    pub crc32c: u32,
}

/// Reads one row of a consistent picture of the store.
pub type ReadRow<'a> = dyn Fn(Table, &[u8]) -> Result<Option<Bytes>, StoreError> + 'a;

/// Rows of all groups of a node. Calls block on the disk for a short time.
pub trait StateStore: Send + Sync + 'static {
    /// One row.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

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
    fn write(&self, set: WriteSet) -> Result<(), StoreError>;

    /// Makes every write so far durable (fsync). Slow: rows go from memory to files.
    fn flush(&self) -> Result<(), StoreError>;

    /// Writes a consistent picture of all rows of `group` into files of the new folder `dir`, fsynced.
    /// `read` is called on the same picture first: rows (such as the applied log id) that describe it.
    fn export(
        &self,
        group: Group,
        dir: &Path,
        read: &mut dyn FnMut(&ReadRow<'_>) -> Result<(), StoreError>,
    ) -> Result<Vec<ExportedFile>, StoreError>;

    /// Replaces all rows of `group` by those of files that [`StateStore::export`] made; durable on return.
    /// The files are moved or copied in. A crash in between is mended by calling it again with the same files.
    fn import(&self, group: Group, dir: &Path, files: &[ExportedFile]) -> Result<(), StoreError>;
}
