//! One writer for the logs of all shards: what they ask for at the same time is one batch and one fsync.
//!
//! [`LogEngine`] is the seam: [`GroupCommit`] over RocksDB in production; a later simulation puts a memory with a
//! model of unsynced writes in its place. Everything is written in the order of [`LogEngine::submit`]. A failed write
//! is final: every later one fails too, and [`LogEngine::failed`] tells the process to end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use parlance_proto::ids::ShardId;
use rocksdb::{DB, WriteBatch, WriteOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::error::RaftError;
use super::log_db::{self, LOG, LoadedRows, META, TornLog};
use super::metrics;
use crate::sabotage::{CrashPoint, Switch, crash_point, is_on};
use crate::store::StoreFigures;

/// Writes that may wait for the writer.
const QUEUE_WRITES_MAX: usize = 8192;
/// Writes in one batch.
const BATCH_WRITES_MAX: usize = 4096;
/// Bytes after which a batch takes no more.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// Up to this many entries are deleted one by one: a range tombstone would slow every read down.
const POINT_DELETES_MAX: u64 = 1_000;

/// One change of one shard's log.
#[derive(Debug)]
pub enum LogWrite {
    /// Entries, by index, and now and then an encoded `LogMark`: what is committed, a hint for the next start.
    Append(Vec<(u64, Bytes)>, Option<Bytes>),
    /// An encoded `Vote`.
    Vote(Bytes),
    /// Removes the entries `from..to`, the newest ones.
    Truncate(u64, u64),
    /// Removes the entries `from..to`, the oldest ones, and keeps an encoded `LogMark`.
    Purge(u64, u64, Bytes),
}

/// Called once the write is on disk, from the writer's thread: must be quick.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Where the logs of all shards are kept.
pub trait LogEngine: Send + Sync + 'static {
    /// Queues a write; waits only while the queue is full.
    fn submit(&self, shard: ShardId, write: LogWrite, done: Done) -> BoxFuture<'_, io::Result<()>>;
    /// What a shard has on disk.
    fn load(&self, shard: ShardId) -> io::Result<LoadedRows>;
    /// Rows of entries `from..to`, at least one if there is one, and not many more than `bytes_max` bytes.
    fn read(&self, shard: ShardId, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Bytes>>;
    /// How it is. Quick, but may wait for the database.
    fn figures(&self) -> StoreFigures {
        StoreFigures::default()
    }
    /// For how long the write under way has been so.
    fn waiting(&self) -> Duration {
        Duration::ZERO
    }
    /// Says why the process must end, once it must.
    fn failed(&self) -> watch::Receiver<Option<String>>;
    /// Writes what is queued and closes; later calls fail.
    fn close(&self);
}

struct Job {
    shard: ShardId,
    write: LogWrite,
    done: Done,
}

/// [`LogEngine`] in RocksDB with one writer thread.
pub struct GroupCommit {
    db: Arc<DB>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    failed: watch::Sender<Option<String>>,
    /// Since when a write has been under way.
    since: Arc<Mutex<Option<Instant>>>,
}

impl GroupCommit {
    /// Opens the log in `dir`, or makes it.
    pub fn open(dir: &Path, torn: TornLog) -> Result<Self, RaftError> {
        let db = Arc::new(log_db::open(dir, torn)?);
        let (sender, receiver) = mpsc::channel(QUEUE_WRITES_MAX);
        let failed = watch::Sender::new(None);
        let since = Arc::default();
        let writer = Writer {
            db: db.clone(),
            failed: failed.clone(),
            synced: write_options(),
            since: Arc::clone(&since),
        };
        let spawned = std::thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || writer.run(receiver));
        let thread = spawned.map_err(|e| RaftError::LogDamaged {
            dir: dir.to_owned(),
            reason: format!("no thread: {e}"),
        })?;
        Ok(Self {
            db,
            jobs: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(thread)),
            failed,
            since,
        })
    }

    fn fail<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &result {
            fail(&self.failed, &e.to_string());
        }
        result
    }
}

fn fail(failed: &watch::Sender<Option<String>>, reason: &str) {
    failed.send_if_modified(|current| {
        let first = current.is_none();
        if first {
            *current = Some(format!(
                "the raft log failed: {reason}. Look at the disk, then start the node again; if its log does not open, \
                 bring in a new member: parlance node replace"
            ));
        }
        first
    });
}

impl LogEngine for GroupCommit {
    fn submit(&self, shard: ShardId, write: LogWrite, done: Done) -> BoxFuture<'_, io::Result<()>> {
        let jobs = self.jobs.lock().clone();
        Box::pin(async move {
            let closed = || io::Error::other("the raft log is closed");
            jobs.ok_or_else(closed)?
                .send(Job { shard, write, done })
                .await
                .map_err(|_| closed())
        })
    }

    fn load(&self, shard: ShardId) -> io::Result<LoadedRows> {
        self.fail(log_db::load(&self.db, shard))
    }

    fn read(&self, shard: ShardId, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Bytes>> {
        self.fail(log_db::read(&self.db, shard, from, to, bytes_max))
    }

    fn figures(&self) -> StoreFigures {
        let tables = [LOG, META].into_iter();
        let tables = tables.filter_map(|name| log_db::family(&self.db, name).ok());
        StoreFigures::of(&self.db, tables)
    }

    fn waiting(&self) -> Duration {
        let since = *self.since.lock();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    fn close(&self) {
        drop(self.jobs.lock().take());
        // The last handle may go with a callback, on the writer's own thread.
        if let Some(writer) = self.writer.lock().take()
            && writer.thread().id() != std::thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!("the raft log's writer panicked");
        }
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_options() -> WriteOptions {
    let mut synced = WriteOptions::default();
    synced.set_sync(!is_on(Switch::NoSync));
    synced
}

struct Writer {
    db: Arc<DB>,
    failed: watch::Sender<Option<String>>,
    synced: WriteOptions,
    since: Arc<Mutex<Option<Instant>>>,
}

/// A batch being gathered.
#[derive(Default)]
struct Batch {
    rows: WriteBatch,
    entries: usize,
    done: Vec<Done>,
}

impl Writer {
    fn run(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let (batch, added) = self.gather(first, &mut jobs);
            crash_point(CrashPoint::BeforeLogSave);
            let started = Instant::now();
            *self.since.lock() = Some(started);
            let (entries, bytes) = (batch.entries, batch.rows.size_in_bytes());
            let result = self.check_failed().and(added).and_then(|()| {
                self.db
                    .write_opt(batch.rows, &self.synced)
                    .map_err(|e| e.to_string())
            });
            crash_point(CrashPoint::AfterLogSave);
            *self.since.lock() = None;
            metrics::synced(started.elapsed(), entries, bytes);
            if let Err(reason) = &result {
                fail(&self.failed, reason);
            }
            for done in batch.done {
                done(result.clone().map_err(io::Error::other));
            }
        }
    }

    fn check_failed(&self) -> Result<(), String> {
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }

    fn gather(&self, first: Job, jobs: &mut mpsc::Receiver<Job>) -> (Batch, Result<(), String>) {
        let mut batch = Batch::default();
        let mut added = self.add(&mut batch, first);
        while added.is_ok()
            && batch.done.len() < BATCH_WRITES_MAX
            && batch.rows.size_in_bytes() < BATCH_BYTES_MAX
        {
            let Ok(job) = jobs.try_recv() else { break };
            added = self.add(&mut batch, job);
        }
        (batch, added.map_err(|e| e.to_string()))
    }

    fn add(&self, batch: &mut Batch, job: Job) -> io::Result<()> {
        let Job { shard, write, done } = job;
        batch.done.push(done);
        let (log, meta) = (
            log_db::family(&self.db, LOG)?,
            log_db::family(&self.db, META)?,
        );
        let rows = &mut batch.rows;
        match write {
            LogWrite::Append(entries, committed) => {
                batch.entries += entries.len();
                for (index, row) in entries {
                    rows.put_cf(log, log_db::entry_key(shard, index), row);
                }
                if let Some(mark) = committed {
                    rows.put_cf(meta, log_db::committed_key(shard), mark);
                }
            }
            LogWrite::Vote(row) => rows.put_cf(meta, log_db::vote_key(shard), row),
            LogWrite::Truncate(from, to) => self.delete(rows, shard, from, to)?,
            LogWrite::Purge(from, to, mark) => {
                rows.put_cf(meta, log_db::purged_key(shard), mark);
                self.delete(rows, shard, from, to)?;
            }
        }
        Ok(())
    }

    fn delete(&self, rows: &mut WriteBatch, shard: ShardId, from: u64, to: u64) -> io::Result<()> {
        let log = log_db::family(&self.db, LOG)?;
        if to.saturating_sub(from) <= POINT_DELETES_MAX {
            (from..to).for_each(|index| rows.delete_cf(log, log_db::entry_key(shard, index)));
        } else {
            rows.delete_range_cf(
                log,
                log_db::entry_key(shard, from),
                log_db::entry_key(shard, to),
            );
        }
        Ok(())
    }
}
