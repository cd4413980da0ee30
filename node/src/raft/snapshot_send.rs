//! Reads a shard's rows for a follower, straight from the store, as fast as the follower takes them.

use std::io;
use std::sync::Arc;

use parlance_proto::ids::ShardId;
use parlance_proto::raft::v1::{SnapshotChunk, SnapshotEnd, SnapshotHeader, SnapshotRow};
use parlance_proto::store::v1::AppliedState;
use tokio::sync::{mpsc, oneshot};

use super::shard_rows::ShardRows;
use super::snapshot::{FORMAT, range};
use crate::store::{RowRange, StoreError, StoreView};

/// Bytes of rows after which a chunk takes no more.
const CHUNK_BYTES_TARGET: usize = 256 * 1024;
/// Chunks in memory between the store and the network.
const CHUNKS_IN_MEMORY: usize = 4;

/// Takes a view of the rows and reads it on a thread of its own. The view is held until all chunks are taken or the
/// receiver is dropped. Chunks that end without [`SnapshotEnd`] are not all: reading failed.
pub(super) async fn read(
    rows: Arc<ShardRows>,
) -> io::Result<(SnapshotHeader, mpsc::Receiver<SnapshotChunk>)> {
    let (sender, chunks) = mpsc::channel(CHUNKS_IN_MEMORY);
    let (header_sender, sent_header) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut header_sender = Some(header_sender);
        let read = rows.view(&mut |state, ranges, view| {
            let header = header(rows.shard, state, ranges);
            let wanted = header_sender.take();
            if wanted.is_some_and(|wanted| wanted.send(header).is_ok()) {
                Chunks::new(&sender).read(ranges, view)?;
            }
            Ok(())
        });
        if let Err(error) = read {
            tracing::error!(shard = %rows.shard, %error, "the rows for a snapshot cannot be read");
            rows.report(&error);
        }
    });
    let header = sent_header
        .await
        .map_err(|_| io::Error::other("the store cannot be read"))?;
    Ok((header, chunks))
}

fn header(shard: ShardId, state: AppliedState, ranges: &[RowRange]) -> SnapshotHeader {
    SnapshotHeader {
        shard: shard.0,
        vote: None,
        format: FORMAT,
        state: Some(state),
        ranges: ranges.iter().map(range).collect(),
    }
}

struct Chunks<'a> {
    sender: &'a mpsc::Sender<SnapshotChunk>,
    chunk: SnapshotChunk,
    bytes: usize,
    rows: u64,
}

impl<'a> Chunks<'a> {
    fn new(sender: &'a mpsc::Sender<SnapshotChunk>) -> Self {
        Self {
            sender,
            chunk: SnapshotChunk::default(),
            bytes: 0,
            rows: 0,
        }
    }

    fn read(&mut self, ranges: &[RowRange], view: &dyn StoreView) -> Result<(), StoreError> {
        for (number, range) in (0..).zip(ranges) {
            self.chunk.range = number;
            let mut wanted = true;
            view.scan(range, &mut |key, value| {
                wanted = self.row(key, value);
                wanted
            })?;
            wanted = wanted && (self.chunk.rows.is_empty() || self.send());
            if !wanted {
                return Ok(());
            }
        }
        self.chunk.end = Some(SnapshotEnd { rows: self.rows });
        self.send();
        Ok(())
    }

    /// Answers whether more is wanted.
    fn row(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.bytes += key.len() + value.len();
        self.rows += 1;
        self.chunk.rows.push(SnapshotRow {
            key: key.to_vec().into(),
            value: value.to_vec().into(),
        });
        self.bytes < CHUNK_BYTES_TARGET || self.send()
    }

    fn send(&mut self) -> bool {
        self.bytes = 0;
        let next = SnapshotChunk {
            range: self.chunk.range,
            ..SnapshotChunk::default()
        };
        let chunk = std::mem::replace(&mut self.chunk, next);
        self.sender.blocking_send(chunk).is_ok()
    }
}
