//! The state store in RocksDB: one column family a table, log-structured, unsynced until flushed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Direction, FlushOptions,
    IngestExternalFileOptions, IteratorMode, Options, ReadOptions, ReadTier, Snapshot,
    WriteOptions,
};

use super::flushes::Flushes;
use super::manifest::{self, Existing, ManifestGuard};
use super::row_files::{self, file_error};
use super::{
    Change, Order, ReadView, RowFile, RowRange, StateStore, StoreError, StoreFigures, StoreView,
    Table, WriteBatch,
};

/// Memory for blocks read from disk, for all tables together.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// Memory of one table's newest rows before all tables go to files. A process that was killed replays as much.
const WRITE_BUFFER_BYTES: usize = 16 << 20;
/// The same for all tables together, with what is on its way to files.
const WRITE_BUFFERS_BYTES: usize = 48 << 20;
/// Bits a row in the filters of `dedup`: one look-up in two thousand reads a block for nothing.
const DEDUP_FILTER_BITS: f64 = 16.0;
/// A view is read from end to end: in large pieces.
const SCAN_READ_AHEAD_BYTES: usize = 1 << 20;

/// [`StateStore`] in a RocksDB of its own, without a write-ahead log: that is what the Raft log is.
pub struct RocksStore {
    db: DB,
    unlogged: WriteOptions,
    /// The same, for whoever must not wait.
    at_once: WriteOptions,
    flushes: Flushes,
    _manifest: ManifestGuard,
}

impl RocksStore {
    /// Opens the store in `dir`, or makes it if it need not exist.
    ///
    /// What was not flushed is lost with the process, and is in the Raft log, which is kept until the rows are durable;
    /// a shard whose rows end before its log starts is refused when it starts.
    pub fn open(dir: &Path, existing: Existing) -> Result<Self, StoreError> {
        manifest::check(dir, existing).map_err(|reason| damaged_store(dir, reason))?;
        // Read by all shards at once; the other kind locks for each block. Zero: it sizes its table itself.
        let cache = Cache::new_hyper_clock_cache(BLOCK_CACHE_BYTES, 0);
        let mut options = table_options(Table::Meta, &cache);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // All tables reach their files together: what is there after a loss is one point in time.
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
        options.set_max_background_jobs(background_jobs());
        // One writer after the other costs less than the care that concurrent ones need.
        options.set_allow_concurrent_memtable_write(false);
        options.set_keep_log_file_num(4);
        let tables = Table::ALL
            .map(|table| ColumnFamilyDescriptor::new(table.name(), table_options(table, &cache)));
        let db = DB::open_cf_descriptors(&options, dir, tables)
            .map_err(|e| damaged_store(dir, e.to_string()))?;
        let manifest = ManifestGuard::start(dir).map_err(|e| file_error(dir, e))?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        let mut at_once = WriteOptions::default();
        at_once.disable_wal(true);
        at_once.set_no_slowdown(true);
        Ok(Self {
            db,
            unlogged,
            at_once,
            flushes: Flushes::default(),
            _manifest: manifest,
        })
    }

    fn family(&self, table: Table) -> Result<&ColumnFamily, StoreError> {
        self.db
            .cf_handle(table.name())
            .ok_or_else(|| StoreError::Damaged {
                what: format!("table {}", table.name()),
                reason: "it is not in the database".to_owned(),
            })
    }

    /// In RocksDB's words.
    fn rows(&self, batch: &WriteBatch) -> Result<rocksdb::WriteBatch, StoreError> {
        let mut rows = rocksdb::WriteBatch::default();
        for change in batch.changes() {
            match change {
                Change::Put(table, key, value) => rows.put_cf(self.family(*table)?, key, value),
                Change::Delete(table, key) => rows.delete_cf(self.family(*table)?, key),
                Change::DeleteRange(table, from, to) => {
                    rows.delete_range_cf(self.family(*table)?, from, to)
                }
            }
        }
        Ok(rows)
    }
}

fn table_options(table: Table, cache: &Cache) -> Options {
    let mut blocks = row_files::block_options();
    if table == Table::Dedup {
        blocks.set_bloom_filter(DEDUP_FILTER_BITS, false);
    }
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = row_files::file_options(&blocks);
    if table == Table::Dedup {
        // Digests: nothing compresses, and nearly all look-ups should end at the filter.
        options.set_compression_type(DBCompressionType::None);
    }
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    // Most look-ups in `dedup` find nothing, and should find that out cheaply.
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_memtable_whole_key_filtering(true);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

fn damaged_store(dir: &Path, reason: String) -> StoreError {
    StoreError::Damaged {
        what: format!(
            "{}; keep the data directory for inspection and bring in a new member in this node's place: parlance node \
             replace",
            dir.display()
        ),
        reason,
    }
}

impl StateStore for RocksStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let row = self.db.get_pinned_cf(self.family(table)?, key)?;
        Ok(row.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let family = self.family(table)?;
        let rows = self.db.batched_multi_get_cf(family, keys, false);
        rows.into_iter()
            .map(|row| Ok(row?.map(|value| Bytes::copy_from_slice(&value))))
            .collect()
    }

    fn get_durable(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        let row = self.db.get_cf_opt(self.family(table)?, key, &options)?;
        Ok(row.map(Bytes::from))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let start = match order {
            Order::Ascending => IteratorMode::From(from, Direction::Forward),
            Order::Descending => IteratorMode::End,
        };
        for row in self.db.iterator_cf_opt(self.family(table)?, options, start) {
            let (key, value) = row?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        Ok(self.db.write_opt(self.rows(batch)?, &self.unlogged)?)
    }

    fn try_write(&self, batch: &WriteBatch) -> Result<bool, StoreError> {
        match self.db.write_opt(self.rows(batch)?, &self.at_once) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == rocksdb::ErrorKind::Incomplete => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            tables.push(self.family(table)?);
        }
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let ticket = self.flushes.ticket();
        self.flushes
            .share(ticket, || Ok(self.db.flush_cfs_opt(&tables, &options)?))
    }

    fn figures(&self) -> StoreFigures {
        let tables = Table::ALL.into_iter();
        StoreFigures::of(&self.db, tables.filter_map(|table| self.family(table).ok()))
    }

    fn view(&self, read: &mut ReadView<'_>) -> Result<(), StoreError> {
        read(&View {
            store: self,
            snapshot: self.db.snapshot(),
        })
    }

    fn import(&self, ranges: &[RowRange], dir: &Path, files: &[RowFile]) -> Result<(), StoreError> {
        let mut batch = rocksdb::WriteBatch::default();
        for RowRange { table, from, to } in ranges {
            batch.delete_range_cf(self.family(*table)?, from, to);
        }
        self.db.write_opt(batch, &self.unlogged)?;
        // Else taking the first file in flushes by itself, and holds up the writes of all other shards meanwhile.
        self.flush()?;
        // Moved in are links to the files: they themselves stay, so that this can be done again.
        let links = dir.join("links");
        let made = fs::remove_dir_all(&links)
            .or_else(|e| {
                if e.kind() == ErrorKind::NotFound {
                    Ok(())
                } else {
                    Err(e)
                }
            })
            .and_then(|()| fs::create_dir(&links));
        made.map_err(|e| file_error(&links, e))?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        for table in Table::ALL {
            let mut linked = Vec::new();
            for file in files.iter().filter(|file| file.table == table) {
                let link = links.join(&file.name);
                fs::hard_link(dir.join(&file.name), &link).map_err(|e| file_error(&link, e))?;
                linked.push(link);
            }
            if !linked.is_empty() {
                self.db
                    .ingest_external_file_cf_opts(self.family(table)?, &options, linked)?;
            }
        }
        Ok(())
    }
}

struct View<'a> {
    store: &'a RocksStore,
    snapshot: Snapshot<'a>,
}

impl StoreView for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let row = self.snapshot.get_cf(self.store.family(table)?, key)?;
        Ok(row.map(Bytes::from))
    }

    fn scan(
        &self,
        range: &RowRange,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.to.clone());
        options.fill_cache(false);
        options.set_readahead_size(SCAN_READ_AHEAD_BYTES);
        let start = IteratorMode::From(&range.from, Direction::Forward);
        let family = self.store.family(range.table)?;
        for row in self.snapshot.iterator_cf_opt(family, options, start) {
            let (key, value) = row?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}

/// Flushes and compactions at a time. The Raft log's database shares these threads.
pub fn background_jobs() -> i32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    i32::try_from(cores.clamp(2, 8)).unwrap_or(2)
}

/// Where the state store is inside a data directory.
pub fn state_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("state")
}

#[cfg(test)]
mod tests;
