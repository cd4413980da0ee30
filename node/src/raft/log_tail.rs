//! The newest entries of one log in memory, and what is known of the rest without asking the disk. All logs of a node share a
//! budget of bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parlance_proto::store::v1 as store;
use prost::Message;

use super::convert;
use super::types::{Entry, EntryPayload, LogId, Vote};

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

    pub(super) fn changed(&self, before: usize, now: usize) {
        self.bytes.fetch_add(now, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    /// Whether idle logs should give way to busy ones.
    pub(super) fn is_tight(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max / 2
    }

    pub(super) fn of_one_log(&self) -> usize {
        if self.bytes.load(Ordering::Relaxed) > self.bytes_max {
            self.bytes_max / CUT_TAIL_PART
        } else {
            TAIL_BYTES_MAX.min(self.bytes_max)
        }
    }
}

/// What is known of a log without asking the disk.
#[derive(Default)]
pub(super) struct LogState {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    /// The index of the commit mark on disk.
    pub(super) committed_saved: u64,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// Index of the oldest entry, if there is one.
    pub(super) first_index: u64,
    /// Entries above this may not be on disk yet.
    pub(super) flushed: u64,
    /// The newest entries, without gaps, up to `last`.
    pub(super) tail: VecDeque<Entry>,
    pub(super) tail_bytes: usize,
    /// What of it is counted in the node's budget.
    pub(super) counted: usize,
    /// Bytes appended since the start, and how many there were at some of the entries.
    pub(super) appended: u64,
    pub(super) milestones: VecDeque<(u64, u64)>,
    /// Nothing was appended since the last look.
    pub(super) idle: bool,
}

fn entry_bytes(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    payload + ENTRY_OVERHEAD_BYTES
}

impl LogState {
    pub(super) fn push(&mut self, entry: Entry) {
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
    pub(super) fn trim(&mut self, bytes_max: usize) {
        while self.tail_bytes > bytes_max
            && self
                .tail
                .front()
                .is_some_and(|entry| entry.log_id.index <= self.flushed)
        {
            self.forget_oldest();
        }
    }

    pub(super) fn forget_oldest(&mut self) {
        self.tail_bytes -= self.tail.pop_front().map_or(0, |entry| entry_bytes(&entry));
    }

    pub(super) fn forget_newest(&mut self) {
        self.tail_bytes -= self.tail.pop_back().map_or(0, |entry| entry_bytes(&entry));
    }

    /// The commit mark, if the one on disk is old enough to be replaced.
    pub(super) fn take_commit_mark(&mut self) -> Option<Bytes> {
        let due = self.committed_saved + COMMITTED_STEP;
        let committed = self.committed.filter(|id| id.index >= due)?;
        self.committed_saved = committed.index;
        let mark = store::LogMark {
            id: Some(convert::log_id(&committed)),
        };
        Some(mark.encode_to_vec().into())
    }

    /// Bytes of the entries behind an index, about; of those that were appended since the start.
    pub(super) fn bytes_after(&self, index: u64) -> u64 {
        let first = self.milestones.partition_point(|(at, _)| *at <= index);
        self.milestones
            .get(first)
            .map_or(0, |(_, bytes)| self.appended - bytes)
    }

    pub(super) fn end_index(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    /// Entries `from..to` that are in memory; they reach to the end of the range if there are any.
    pub(super) fn in_memory(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Entry> {
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
