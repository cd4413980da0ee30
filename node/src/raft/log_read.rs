//! Reads one shard's log: the newest entries from memory, older ones, of a follower that was away, from disk in bounded pieces.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use futures::{Stream, stream};
use openraft::{OptionalSend, RaftLogReader};

use super::convert;
use super::log_store::{LogStore, damaged};
use super::types::{Entry, TypeConfig, Vote};

/// Bytes of entries in one answer to replication or apply.
const READ_BYTES_MAX: usize = 1 << 20;

impl LogStore {
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
