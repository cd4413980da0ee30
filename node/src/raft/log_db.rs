//! The database of the Raft log of all shards: how it is opened, and its rows.
//!
//! | family | key | value |
//! | --- | --- | --- |
//! | log | shard (4 bytes BE) index (8 bytes BE) | version byte, `LogEntry` |
//! | meta | shard (4 bytes BE) `vote` | `Vote` |
//! | meta | shard (4 bytes BE) `committed` | `LogMark` |
//! | meta | shard (4 bytes BE) `purged` | `LogMark` |

use std::io;
use std::path::Path;

use bytes::Bytes;
use parlance_proto::ids::ShardId;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Direction,
    IteratorMode, Options, ReadOptions,
};

use super::error::RaftError;
use crate::store::rocks::background_jobs;

/// Entries.
pub(super) const LOG: &str = "log";
/// Votes and marks.
pub(super) const META: &str = "meta";

const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";

/// Memory of the newest rows before they go to a file; three of these at most.
const WRITE_BUFFER_BYTES: usize = 24 << 20;
/// Memory of all rows that are not in a file yet.
const WRITE_BUFFERS_BYTES: usize = 64 << 20;
/// `meta` is written rarely and would pin old write-ahead logs for ever.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// File counts at which RocksDB would slow writers down or stop them: never, it is a log.
const NO_SLOWDOWN: i32 = 1 << 30;

/// What to do with a log that does not end as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TornLog {
    /// Open it if only its end is cut off, refuse all else.
    Refuse,
    /// Give up all that follows the first damaged record. For one start, by an operator.
    Recover,
}

/// What a shard has on disk.
#[derive(Debug, Default)]
pub struct LoadedRows {
    /// Encoded `Vote`.
    pub vote: Option<Bytes>,
    /// Encoded `LogMark`.
    pub committed: Option<Bytes>,
    /// Encoded `LogMark`.
    pub purged: Option<Bytes>,
    /// Index of the oldest entry.
    pub first_index: Option<u64>,
    /// The newest entry's row.
    pub last: Option<Bytes>,
}

pub(super) fn open(dir: &Path, torn: TornLog) -> Result<DB, RaftError> {
    if torn == TornLog::Recover {
        tracing::error!(
            dir = %dir.display(),
            "recover_torn_log is set: whatever follows the first damaged record of the raft log is given up; take the \
             setting away after this start"
        );
    }
    let refused = |e: String| RaftError::LogDamaged {
        dir: dir.to_owned(),
        reason: e,
    };
    crate::store::folder::make(dir).map_err(|e| refused(e.to_string()))?;
    let options = options(torn);
    let families = [LOG, META].map(|name| ColumnFamilyDescriptor::new(name, family_options()));
    let db =
        DB::open_cf_descriptors(&options, dir, families).map_err(|e| refused(e.to_string()))?;
    Ok(db)
}

fn options(torn: TornLog) -> Options {
    let mut options = family_options();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(match torn {
        TornLog::Refuse => DBRecoveryMode::TolerateCorruptedTailRecords,
        TornLog::Recover => DBRecoveryMode::PointInTime,
    });
    options.set_recycle_log_file_num(0);
    options.set_track_and_verify_wals_in_manifest(torn == TornLog::Refuse);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_keep_log_file_num(4);
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    // The threads are the process's: the state store's flushes and compactions share them.
    options.set_max_background_jobs(background_jobs());
    // There is one writer: a shard's next entry goes in beside its last without a search.
    options.set_allow_concurrent_memtable_write(false);
    options
}

fn family_options() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(3);
    options.set_level_zero_slowdown_writes_trigger(NO_SLOWDOWN);
    options.set_level_zero_stop_writes_trigger(NO_SLOWDOWN);
    options
}

pub(super) fn family<'a>(db: &'a DB, name: &str) -> io::Result<&'a ColumnFamily> {
    db.cf_handle(name)
        .ok_or_else(|| io::Error::other(format!("the raft log has no family {name}")))
}

pub(super) fn entry_key(shard: ShardId, index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&shard.0.to_be_bytes());
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

fn meta_key(shard: ShardId, name: &[u8]) -> Vec<u8> {
    [&shard.0.to_be_bytes(), name].concat()
}

pub(super) fn vote_key(shard: ShardId) -> Vec<u8> {
    meta_key(shard, VOTE)
}

pub(super) fn committed_key(shard: ShardId) -> Vec<u8> {
    meta_key(shard, COMMITTED)
}

pub(super) fn purged_key(shard: ShardId) -> Vec<u8> {
    meta_key(shard, PURGED)
}

/// The marks of a shard and its newest entry.
pub(super) fn load(db: &DB, shard: ShardId) -> io::Result<LoadedRows> {
    let meta = family(db, META)?;
    let row = |key: Vec<u8>| {
        db.get_cf(meta, key)
            .map(|row| row.map(Bytes::from))
            .map_err(io::Error::other)
    };
    let (from, to) = (entry_key(shard, 0), entry_key(shard, u64::MAX));
    let end = |mode| {
        let row = db
            .iterator_cf_opt(family(db, LOG)?, range(&from, &to), mode)
            .next();
        row.transpose().map_err(io::Error::other)
    };
    let index = |key: &[u8]| {
        key.last_chunk::<8>()
            .map(|index| u64::from_be_bytes(*index))
    };
    let first = end(IteratorMode::From(&from, Direction::Forward))?;
    let last = end(IteratorMode::End)?;
    Ok(LoadedRows {
        vote: row(vote_key(shard))?,
        committed: row(committed_key(shard))?,
        purged: row(purged_key(shard))?,
        first_index: first.and_then(|(key, _)| index(&key)),
        last: last.map(|(_, row)| Bytes::from(row)),
    })
}

/// Rows of entries `from..to` in order, at least one if there is one, and not many more than `bytes_max` bytes.
pub(super) fn read(
    db: &DB,
    shard: ShardId,
    from: u64,
    to: u64,
    bytes_max: usize,
) -> io::Result<Vec<Bytes>> {
    let (from, to) = (entry_key(shard, from), entry_key(shard, to));
    let mut rows = Vec::new();
    let mut bytes = 0;
    for row in db.iterator_cf_opt(
        family(db, LOG)?,
        range(&from, &to),
        IteratorMode::From(&from, Direction::Forward),
    ) {
        let (_, value) = row.map_err(io::Error::other)?;
        bytes += value.len();
        rows.push(Bytes::from(value));
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(rows)
}

fn range(from: &[u8], to: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::manifest::Existing;
    use crate::store::rocks::RocksStore;

    /// What RocksDB has written down of how a database is opened.
    fn has_option(dir: &Path, option: &str) -> bool {
        let files = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
        let is_options = |name: &str| name.starts_with("OPTIONS-") && !name.ends_with("tmp");
        let mut options = files.filter(|file| is_options(&file.file_name().to_string_lossy()));
        options.any(|file| {
            let text = std::fs::read_to_string(file.path()).unwrap();
            text.lines().any(|line| line.trim() == option)
        })
    }

    #[test]
    fn both_databases_flush_and_compact_with_as_many_threads_as_there_are_cores() {
        let dir = tempfile::tempdir().unwrap();
        let (log, state) = (dir.path().join("log"), dir.path().join("state"));
        let _log = open(&log, TornLog::Refuse).unwrap();
        let _state = RocksStore::open(&state, Existing::No).unwrap();
        let cores = std::thread::available_parallelism().unwrap().get();
        let jobs = format!("max_background_jobs={}", cores.clamp(2, 8));
        assert!(has_option(&log, &jobs) && has_option(&state, &jobs));
    }

    /// A line here is on every disk: add lines, never edit one.
    #[test]
    fn keys_have_the_bytes_that_they_always_had() {
        let shard = ShardId(258);
        let keys = [
            entry_key(shard, 7).to_vec(),
            vote_key(shard),
            committed_key(shard),
            purged_key(shard),
        ];
        assert_eq!(
            keys.map(hex::encode),
            [
                "000001020000000000000007",
                "00000102766f7465",
                "00000102636f6d6d6974746564",
                "00000102707572676564",
            ]
        );
    }
}
