//! The state store in RocksDB: one column family a table, log-structured, unsynced until flushed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_proto::shard::Group;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    Direction, FlushOptions, IngestExternalFileOptions, IteratorMode, Options, ReadOptions,
    ReadTier, SstFileWriter, WriteBatch, WriteOptions,
};

use super::manifest::{self, Existing, ManifestGuard};
use super::{Change, ExportedFile, Order, ReadRow, StateStore, StoreError, Table, WriteSet, key};

/// Memory for blocks read from disk, for all tables together.
const BLOCK_CACHE_BYTES: usize = 128 << 20;
/// Memory of one table's newest rows before all tables go to files. A process that was killed replays as much.
const WRITE_BUFFER_BYTES: usize = 32 << 20;

/// [`StateStore`] in a RocksDB of its own, without a write-ahead log: that is what the Raft log is.
pub struct RocksStore {
    db: DB,
    unlogged: WriteOptions,
    flushes: Flushes,
    _manifest: ManifestGuard,
}

/// Lets those who want a flush at the same time share one.
#[derive(Default)]
struct Flushes {
    begun: AtomicU64,
    /// The number of the last one that succeeded.
    finished: Mutex<u64>,
}

impl Flushes {
    /// What was written before this call wants a flush that begins after it.
    fn ticket(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Runs `flush`, unless one that began after the ticket was drawn has succeeded.
    fn share<E>(&self, ticket: u64, flush: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut finished = self.finished.lock();
        if *finished > ticket {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        flush()?;
        *finished = number;
        Ok(())
    }
}

impl RocksStore {
    /// Opens the store in `dir`, or makes it if it need not exist.
    ///
    /// What was not flushed is lost with the process, and is in the Raft log, which is kept until the rows are durable;
    /// a group whose rows end before its log starts is refused when it starts.
    pub fn open(dir: &Path, existing: Existing) -> Result<Self, StoreError> {
        manifest::check(dir, existing).map_err(|reason| damaged_store(dir, reason))?;
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let mut options = table_options(&cache);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // All tables reach their files together: what is there after a loss is one point in time.
        options.set_atomic_flush(true);
        options.set_max_background_jobs(2);
        // One writer after the other costs less than the care that concurrent ones need.
        options.set_allow_concurrent_memtable_write(false);
        options.set_keep_log_file_num(4);
        let tables = Table::ALL
            .map(|table| ColumnFamilyDescriptor::new(table.name(), table_options(&cache)));
        let db = DB::open_cf_descriptors(&options, dir, tables)
            .map_err(|e| damaged_store(dir, e.to_string()))?;
        let manifest = ManifestGuard::start(dir).map_err(|e| file_error(dir, e))?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(Self {
            db,
            unlogged,
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
}

fn table_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
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

fn file_error(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::File {
        path: path.to_owned(),
        source: Arc::new(source),
    }
}

impl StateStore for RocksStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let row = self.db.get_pinned_cf(self.family(table)?, key)?;
        Ok(row.map(|value| Bytes::copy_from_slice(&value)))
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
            Order::Rising => IteratorMode::From(from, Direction::Forward),
            Order::Falling => IteratorMode::End,
        };
        for row in self.db.iterator_cf_opt(self.family(table)?, options, start) {
            let (key, value) = row?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, set: WriteSet) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for change in set.changes() {
            match change {
                Change::Put(table, key, value) => batch.put_cf(self.family(*table)?, key, value),
                Change::Delete(table, key) => batch.delete_cf(self.family(*table)?, key),
                Change::DeleteRange(table, from, to) => {
                    batch.delete_range_cf(self.family(*table)?, from, to)
                }
            }
        }
        Ok(self.db.write_opt(batch, &self.unlogged)?)
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

    fn export(
        &self,
        group: Group,
        dir: &Path,
        read: &mut dyn FnMut(&ReadRow<'_>) -> Result<(), StoreError>,
    ) -> Result<Vec<ExportedFile>, StoreError> {
        let picture = self.db.snapshot();
        read(&|table, key| Ok(picture.get_cf(self.family(table)?, key)?.map(Bytes::from)))?;
        std::fs::create_dir_all(dir).map_err(|e| file_error(dir, e))?;
        let (from, to) = key::group_range(group);
        let mut files = Vec::new();
        for table in Table::ALL {
            let mut options = ReadOptions::default();
            options.set_iterate_upper_bound(to.clone());
            options.fill_cache(false);
            let rows = picture.iterator_cf_opt(
                self.family(table)?,
                options,
                IteratorMode::From(&from, Direction::Forward),
            );
            let name = format!("{}.sst", table.name());
            if write_sst(&dir.join(&name), rows)? {
                files.push(describe(dir, table, name)?);
            }
        }
        let folder = File::open(dir).map_err(|e| file_error(dir, e))?;
        folder.sync_all().map_err(|e| file_error(dir, e))?;
        Ok(files)
    }

    fn import(&self, group: Group, dir: &Path, files: &[ExportedFile]) -> Result<(), StoreError> {
        let (from, to) = key::group_range(group);
        let mut batch = WriteBatch::default();
        for table in Table::ALL {
            batch.delete_range_cf(self.family(table)?, &from, &to);
        }
        self.db.write_opt(batch, &self.unlogged)?;
        // The files stay where they are, so that a crash half-way can be mended by doing it again.
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(false);
        for file in files {
            self.db.ingest_external_file_cf_opts(
                self.family(file.table)?,
                &options,
                vec![dir.join(&file.name)],
            )?;
        }
        self.flush()
    }
}

/// Writes rows to a new SST file; answers false, and leaves no file, if there are none.
fn write_sst(
    path: &Path,
    rows: impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>>,
) -> Result<bool, StoreError> {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(false);
    }
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    let mut writer = SstFileWriter::create(&options);
    writer.open(path)?;
    for row in rows {
        let (key, value) = row?;
        writer.put(key, value)?;
    }
    writer.finish()?;
    Ok(true)
}

fn describe(dir: &Path, table: Table, name: String) -> Result<ExportedFile, StoreError> {
    let path = dir.join(&name);
    let (size_bytes, crc32c) = checksum(&path)?;
    File::open(&path)
        .and_then(|f| f.sync_all())
        .map_err(|e| file_error(&path, e))?;
    Ok(ExportedFile {
        table,
        name,
        size_bytes,
        crc32c,
    })
}

/// Size and CRC-32C of a whole file, read in pieces.
pub fn checksum(path: &Path) -> Result<(u64, u32), StoreError> {
    let mut file = File::open(path).map_err(|e| file_error(path, e))?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut size, mut crc) = (0u64, 0u32);
    loop {
        let read = file.read(&mut buffer).map_err(|e| file_error(path, e))?;
        if read == 0 {
            return Ok((size, crc));
        }
        size += read as u64;
        crc = crc32c::crc32c_append(crc, buffer.get(..read).unwrap_or_default());
    }
}

/// Where the state store is inside a data directory.
pub fn state_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_is_shared_by_those_who_asked_before_it_began_and_a_failed_one_by_nobody() {
        let flushes = Flushes::default();
        let mut runs = Vec::new();
        let mut share = |ticket, result| {
            let mut ran = false;
            let shared = flushes.share(ticket, || {
                ran = true;
                result
            });
            runs.push(ran);
            shared
        };
        let tickets = [flushes.ticket(); 3];
        assert!(share(tickets[0], Err("disk")).is_err());
        assert!(share(tickets[1], Ok(())).is_ok());
        assert!(share(tickets[2], Ok(())).is_ok());
        assert!(share(flushes.ticket(), Ok(())).is_ok());
        assert_eq!(runs, [true, true, false, true]);
    }

    fn rows(store: &RocksStore, group: Group) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
        let (from, to) = key::group_range(group);
        let mut all = Vec::new();
        for table in Table::ALL {
            store
                .scan(table, &from, &to, Order::Rising, &mut |k, v| {
                    all.push((table, k.to_vec(), v.to_vec()));
                    true
                })
                .unwrap();
        }
        all
    }

    fn filled(dir: &Path) -> RocksStore {
        let store = RocksStore::open(dir, Existing::No).unwrap();
        let mut set = WriteSet::default();
        for group in [6, 7, 8] {
            for seq in 1..=100 {
                set.put(
                    Table::Events,
                    key::event(group, "demo", "d:1:a:b", seq),
                    vec![seq as u8; 50],
                );
            }
            set.put(Table::Meta, key::applied_key(group), vec![group as u8]);
        }
        store.write(set).unwrap();
        store
    }

    #[test]
    fn export_and_import_carry_one_group_and_replace_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let source = filled(&dir.path().join("a"));
        let mut applied = None;
        let files = source
            .export(7, &dir.path().join("x"), &mut |get| {
                applied = get(Table::Meta, &key::applied_key(7))?;
                Ok(())
            })
            .unwrap();
        assert_eq!(applied.as_deref(), Some(&[7u8][..]));
        assert_eq!(files.len(), 2, "empty tables have no file");

        let target = RocksStore::open(&dir.path().join("b"), Existing::No).unwrap();
        let mut set = WriteSet::default();
        set.put(Table::Events, key::event(7, "demo", "old", 1), vec![1]);
        set.put(
            Table::Events,
            key::event(8, "demo", "other group", 1),
            vec![1],
        );
        target.write(set).unwrap();
        for _ in 0..2 {
            target.import(7, &dir.path().join("x"), &files).unwrap();
            assert_eq!(rows(&target, 7), rows(&source, 7));
        }
        assert_eq!(rows(&target, 8).len(), 1, "other groups are left alone");
    }

    #[test]
    fn scans_go_both_ways_inside_their_range() {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path());
        let (from, to) = (
            key::event(7, "demo", "d:1:a:b", 10),
            key::event(7, "demo", "d:1:a:b", 13),
        );
        for (order, expected) in [
            (Order::Rising, [10, 11, 12]),
            (Order::Falling, [12, 11, 10]),
        ] {
            let mut seqs = Vec::new();
            store
                .scan(Table::Events, &from, &to, order, &mut |k, _| {
                    seqs.extend(key::event_seq(k));
                    true
                })
                .unwrap();
            assert_eq!(seqs, expected);
        }
    }

    #[test]
    fn only_flushed_rows_count_as_durable_and_are_there_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path());
        let durable = |key: Vec<u8>| store.get_durable(Table::Meta, &key).unwrap();
        assert_eq!(durable(key::applied_key(6)), None);
        store.flush().unwrap();
        assert_eq!(durable(key::applied_key(6)).as_deref(), Some(&[6u8][..]));
        let mut set = WriteSet::default();
        set.put(Table::Meta, key::applied_key(6), vec![60]);
        store.write(set).unwrap();
        assert_eq!(durable(key::applied_key(6)).as_deref(), Some(&[6u8][..]));
        store.flush().unwrap();
        let before = rows(&store, 6);
        drop(store);
        assert_eq!(
            rows(
                &RocksStore::open(dir.path(), Existing::Required).unwrap(),
                6
            ),
            before
        );
    }
}
