//! One shard's log as the Raft library sees it: a shared [`LogEngine`] with the newest entries in memory (`log_tail.rs`).
//!
//! Entries are readable (`log_read.rs`) when `append` returns and on disk when its callback is called.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, RaftLogStorage};
use parking_lot::Mutex;
use parlance_proto::ids::ShardId;
use parlance_proto::store::v1 as store;
use prost::Message;
use tokio::sync::oneshot;

use super::convert;
use super::group_commit::{LogEngine, LogWrite};
use super::log_tail::{LogState, TailBudget};
use super::purge_gate::PurgeGate;
use super::types::{Entry, LogId, TypeConfig, Vote};

/// A shard's log; clones are the same log.
#[derive(Clone)]
pub struct LogStore {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) shard: ShardId,
    pub(super) engine: Arc<dyn LogEngine>,
    gate: Box<dyn PurgeGate>,
    tails: Arc<TailBudget>,
    pub(super) state: Mutex<LogState>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tails.changed(self.state.get_mut().counted, 0);
    }
}

impl Shared {
    fn count(&self, state: &mut LogState) {
        self.tails.changed(state.counted, state.tail_bytes);
        state.counted = state.tail_bytes;
    }
}

pub(super) fn damaged(shard: ShardId, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the raft log of shard {shard} is damaged: {what}"),
    )
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
        let state = LogState {
            vote: vote.as_ref().map(convert::to_vote),
            committed,
            committed_saved: committed.map_or(0, |id| id.index),
            purged,
            last,
            first_index: oldest,
            flushed: last.map_or(0, |id| id.index),
            ..LogState::default()
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

    /// The newest entry that was known to be committed.
    pub(super) fn committed(&self) -> Option<LogId> {
        self.shared.state.lock().committed
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
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<openraft::storage::LogState<TypeConfig>> {
        let state = self.shared.state.lock();
        Ok(openraft::storage::LogState {
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
