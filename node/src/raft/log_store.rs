//! One shard's log as the Raft library sees it: a shared [`LogEngine`] with the newest entries in memory.
//!
//! Entries are readable when `append` returns and on disk when its callback is called. Replication and apply read the
//! newest entries from memory; older ones, of a follower that was away, come from disk in bounded pieces.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{Stream, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use parlance_proto::ids::ShardId;
use parlance_proto::store::v1 as store;
use prost::Message;
use tokio::sync::oneshot;

use super::convert;
use super::group_commit::{LogEngine, LogWrite};
use super::purge_gate::PurgeGate;
use super::types::{Entry, EntryPayload, LogId, TypeConfig, Vote};

/// Bytes of entries in one answer to replication or apply.
const READ_BYTES_MAX: usize = 1 << 20;
/// The commit mark is a hint for the next start. It goes to disk with an append, once it has moved by so many entries.
const COMMITTED_STEP: u64 = 64;
/// What an entry takes in memory beside its payload.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// Bytes of entries between two places whose size is remembered.
const MILESTONE_BYTES: u64 = 1 << 20;
/// Bytes of one log's newest entries in memory.
const TAIL_BYTES_MAX: usize = 2 << 20;
/// What is left of a tail when all of them together are too large: this part of what all may have.
const CUT_TAIL_PART: usize = 1024;

/// What the newest entries of all logs may take in memory.
pub(super) struct TailBudget {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl TailBudget {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            bytes_max,
        })
    }

    fn changed(&self, before: usize, now: usize) {
        self.bytes.fetch_add(now, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    /// Whether idle logs should give way to busy ones.
    pub(super) fn is_tight(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max / 2
    }

    fn of_one_log(&self) -> usize {
        if self.bytes.load(Ordering::Relaxed) > self.bytes_max {
            self.bytes_max / CUT_TAIL_PART
        } else {
            TAIL_BYTES_MAX.min(self.bytes_max)
        }
    }
}

/// A shard's log; clones are the same log.
#[derive(Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    shard: ShardId,
    engine: Arc<dyn LogEngine>,
    gate: Box<dyn PurgeGate>,
    tails: Arc<TailBudget>,
    state: Mutex<State>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tails.changed(self.state.get_mut().counted, 0);
    }
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// The index of the commit mark on disk.
    committed_saved: u64,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Index of the oldest entry, if there is one.
    first_index: u64,
    /// Entries above this may not be on disk yet.
    flushed: u64,
    /// The newest entries, without gaps, up to `last`.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    /// What of it is counted in the node's budget.
    counted: usize,
    /// Bytes appended since the start, and how many there were at some of the entries.
    appended: u64,
    milestones: VecDeque<(u64, u64)>,
    /// Nothing was appended since the last look.
    idle: bool,
}

impl Shared {
    fn count(&self, state: &mut State) {
        self.tails.changed(state.counted, state.tail_bytes);
        state.counted = state.tail_bytes;
    }
}

fn damaged(shard: ShardId, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the raft log of shard {shard} is damaged: {what}"),
    )
}

fn entry_bytes(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    payload + ENTRY_OVERHEAD_BYTES
}

impl State {
    fn push(&mut self, entry: Entry) {
        if self.last == self.purged {
            self.first_index = entry.log_id.index; // the log was empty
        }
        self.last = Some(entry.log_id);
        self.idle = false;
        let newest = self.milestones.back().map(|(_, bytes)| *bytes);
        if newest.is_none_or(|bytes| self.appended - bytes >= MILESTONE_BYTES) {
            self.milestones
                .push_back((entry.log_id.index, self.appended));
        }
        self.appended += entry_bytes(&entry) as u64;
        self.tail_bytes += entry_bytes(&entry);
        self.tail.push_back(entry);
    }

    /// Forgets the oldest entries in memory that are on disk, until the rest is small enough.
    fn trim(&mut self, bytes_max: usize) {
        while self.tail_bytes > bytes_max
            && self
                .tail
                .front()
                .is_some_and(|entry| entry.log_id.index <= self.flushed)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        self.tail_bytes -= self.tail.pop_front().map_or(0, |entry| entry_bytes(&entry));
    }

    fn forget_newest(&mut self) {
        self.tail_bytes -= self.tail.pop_back().map_or(0, |entry| entry_bytes(&entry));
    }

    /// The commit mark, if the one on disk is old enough to be replaced.
    fn take_commit_mark(&mut self) -> Option<Bytes> {
        let due = self.committed_saved + COMMITTED_STEP;
        let committed = self.committed.filter(|id| id.index >= due)?;
        self.committed_saved = committed.index;
        let mark = store::LogMark {
            id: Some(convert::log_id(&committed)),
        };
        Some(mark.encode_to_vec().into())
    }

    /// Bytes of the entries behind an index, about; of those that were appended since the start.
    fn bytes_after(&self, index: u64) -> u64 {
        let first = self.milestones.partition_point(|(at, _)| *at <= index);
        self.milestones
            .get(first)
            .map_or(0, |(_, bytes)| self.appended - bytes)
    }

    fn end_index(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    /// Entries `from..to` that are in memory; they reach to the end of the range if there are any.
    fn in_memory(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Entry> {
        let Some(first) = self.tail.front().map(|entry| entry.log_id.index) else {
            return Vec::new();
        };
        let skip = from.saturating_sub(first) as usize;
        let mut bytes = 0;
        self.tail
            .iter()
            .skip(skip)
            .take_while(|entry| {
                let more = entry.log_id.index < to && bytes < bytes_max;
                bytes += entry_bytes(entry);
                more
            })
            .cloned()
            .collect()
    }
}

impl LogStore {
    /// Loads a shard's log.
    pub fn open(
        shard: ShardId,
        engine: Arc<dyn LogEngine>,
        gate: Box<dyn PurgeGate>,
        tails: Arc<TailBudget>,
    ) -> io::Result<Self> {
        let rows = engine.load(shard)?;
        let mark = |row: Option<Bytes>, what| -> io::Result<Option<LogId>> {
            let Some(row) = row else { return Ok(None) };
            let mark = store::LogMark::decode(row).map_err(|_| damaged(shard, what))?;
            Ok(mark.id.as_ref().map(convert::to_log_id))
        };
        let vote = rows
            .vote
            .map(store::Vote::decode)
            .transpose()
            .map_err(|_| damaged(shard, "its vote"))?;
        let purged = mark(rows.purged, "its purge mark")?;
        let last = match rows.last {
            Some(row) => Some(
                convert::to_entry_row(row)
                    .map_err(|e| damaged(shard, e.0))?
                    .log_id,
            ),
            None => purged,
        };
        let oldest = purged.map_or(0, |id| id.index + 1);
        if rows.first_index.is_some_and(|first| first != oldest) {
            return Err(damaged(shard, "its oldest entries are missing"));
        }
        let committed = mark(rows.committed, "its commit mark")?;
        let state = State {
            vote: vote.as_ref().map(convert::to_vote),
            committed,
            committed_saved: committed.map_or(0, |id| id.index),
            purged,
            last,
            first_index: oldest,
            flushed: last.map_or(0, |id| id.index),
            ..State::default()
        };
        let state = Mutex::new(state);
        Ok(Self {
            shared: Arc::new(Shared {
                shard,
                engine,
                gate,
                tails,
                state,
            }),
        })
    }

    /// Whether this replica ever voted or stored anything.
    pub fn is_new(&self) -> bool {
        let state = self.shared.state.lock();
        state.vote.is_none() && state.last.is_none()
    }

    /// How many entries are behind an index, and about how many bytes.
    pub(super) fn after(&self, index: u64) -> (u64, u64) {
        let state = self.shared.state.lock();
        let last = state.last.map_or(0, |id| id.index);
        (last.saturating_sub(index), state.bytes_after(index))
    }

    /// Forgets the entries in memory if nothing was appended since the last call.
    pub(super) fn forget_if_idle(&self) {
        let mut state = self.shared.state.lock();
        if state.idle {
            state.trim(0);
            self.shared.count(&mut state);
        }
        state.idle = true;
    }

    /// The newest entry that is no longer in the log.
    pub fn purged(&self) -> Option<LogId> {
        self.shared.state.lock().purged
    }

    async fn write_and_wait(&self, write: LogWrite) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |result| {
            let _ = sender.send(result);
        });
        self.shared
            .engine
            .submit(self.shared.shard, write, done)
            .await?;
        receiver
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the raft log's writer is gone")))
    }

    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let shared = &self.shared;
        // A truncation or purge between the look into memory and the one onto the disk shows as a gap: look again.
        for _ in 0..3 {
            let (from, to, memory_from, memory) = {
                let state = shared.state.lock();
                let (from, to) = (from.max(state.first_index), to.min(state.end_index()));
                if from >= to {
                    return Ok(Vec::new());
                }
                let memory_from = state
                    .tail
                    .front()
                    .map_or(to, |entry| entry.log_id.index)
                    .clamp(from, to);
                (
                    from,
                    to,
                    memory_from,
                    state.in_memory(memory_from, to, bytes_max),
                )
            };
            if memory_from == from {
                return Ok(memory);
            }
            let mut entries = Vec::new();
            let mut bytes = 0;
            let (engine, shard) = (shared.engine.clone(), shared.shard);
            let read = move || engine.read(shard, from, memory_from, bytes_max);
            let rows = tokio::task::spawn_blocking(read).await;
            for row in rows.map_err(io::Error::other)?? {
                bytes += row.len();
                entries.push(convert::to_entry_row(row).map_err(|e| damaged(shared.shard, e.0))?);
            }
            let whole = entries
                .last()
                .is_some_and(|entry| entry.log_id.index + 1 == memory_from);
            if whole && bytes < bytes_max {
                entries.extend(memory);
            }
            let in_order = entries
                .iter()
                .zip(from..)
                .all(|(entry, index)| entry.log_id.index == index);
            let reaches = |end| {
                entries
                    .last()
                    .is_some_and(|entry| entry.log_id.index + 1 == end)
            };
            if in_order && !entries.is_empty() && (bytes_max < usize::MAX || reaches(to)) {
                return Ok(entries);
            }
        }
        Err(damaged(
            shared.shard,
            &format!("entries {from} to {to} have gaps"),
        ))
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        self.read(from, to, usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX).await
    }

    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let log = self.clone();
        let pieces = stream::unfold(Some(from), move |next| {
            let log = log.clone();
            async move {
                let from = next.filter(|from| *from < to)?;
                match log.read(from, to, READ_BYTES_MAX).await {
                    Ok(entries) => {
                        let next = entries.last().map(|entry| entry.log_id.index + 1);
                        let items: Vec<io::Result<Entry>> = entries.into_iter().map(Ok).collect();
                        Some((stream::iter(items), next))
                    }
                    Err(e) => Some((stream::iter(vec![Err(e)]), None)),
                }
            }
        });
        Box::pin(futures::StreamExt::flatten(pieces))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.shared.state.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.write_and_wait(LogWrite::Vote(convert::vote(vote).encode_to_vec().into()))
            .await?;
        self.shared.state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // It goes to disk beside later entries.
        self.shared.state.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut rows = Vec::new();
        let (last, committed) = {
            let mut state = self.shared.state.lock();
            for entry in entries {
                rows.push((entry.log_id.index, convert::entry_row(&entry)));
                state.push(entry);
            }
            self.shared.count(&mut state);
            (
                state.end_index().saturating_sub(1),
                state.take_commit_mark(),
            )
        };
        let shared = self.shared.clone();
        let done = Box::new(move |result: io::Result<()>| {
            if result.is_ok() {
                let mut state = shared.state.lock();
                state.flushed = state.flushed.max(last);
                state.trim(shared.tails.of_one_log());
                shared.count(&mut state);
            }
            callback.io_completed(result);
        });
        self.shared
            .engine
            .submit(self.shared.shard, LogWrite::Append(rows, committed), done)
            .await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let (from, to) = {
            let mut state = self.shared.state.lock();
            let (from, to) = (last_log_id.map_or(0, |id| id.index + 1), state.end_index());
            if from >= to {
                return Ok(());
            }
            while state
                .tail
                .back()
                .is_some_and(|entry| entry.log_id.index >= from)
            {
                state.forget_newest();
            }
            while state.milestones.back().is_some_and(|(at, _)| *at >= from) {
                state.milestones.pop_back();
            }
            self.shared.count(&mut state);
            state.last = last_log_id;
            (from, to)
        };
        self.write_and_wait(LogWrite::Truncate(from, to)).await?;
        // All earlier appends are done by now: nothing raises the mark again before the next append.
        let mut state = self.shared.state.lock();
        state.flushed = state.flushed.min(from.saturating_sub(1));
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.shared.gate.make_durable(log_id.index).await?;
        let (from, to) = {
            let mut state = self.shared.state.lock();
            let from = state.first_index;
            while state
                .tail
                .front()
                .is_some_and(|entry| entry.log_id.index <= log_id.index)
            {
                state.forget_oldest();
            }
            while state
                .milestones
                .front()
                .is_some_and(|(at, _)| *at <= log_id.index)
            {
                state.milestones.pop_front();
            }
            self.shared.count(&mut state);
            state.purged = state.purged.max(Some(log_id));
            state.first_index = state.first_index.max(log_id.index + 1);
            if state.last.is_none_or(|last| last.index <= log_id.index) {
                state.flushed = state.flushed.max(log_id.index);
                state.last = Some(log_id);
            }
            (from, log_id.index + 1)
        };
        let mark = store::LogMark {
            id: Some(convert::log_id(&log_id)),
        };
        self.write_and_wait(LogWrite::Purge(from, to, mark.encode_to_vec().into()))
            .await
    }
}
