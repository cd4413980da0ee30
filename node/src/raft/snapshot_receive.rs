//! Puts a leader's rows into files as they arrive; nothing is believed before all of it is there and checked.

use std::io;

use parlance_proto::ids::ShardId;
use parlance_proto::raft::v1::{SnapshotChunk, SnapshotHeader};
use tokio::sync::mpsc;

use super::snapshot::{FORMAT, invalid, meta, to_range};
use super::snapshot_folder::{ReceivedRows, SnapshotFolder};
use crate::store::{RowFile, RowFileOptions, RowFiles, RowRange, Table, key};

/// Receives rows into a new folder, which is gone again if they are not whole. Blocks.
pub(super) fn receive(
    folder: &SnapshotFolder,
    header: &SnapshotHeader,
    chunks: mpsc::Receiver<SnapshotChunk>,
) -> io::Result<ReceivedRows> {
    if header.format != FORMAT {
        return Err(invalid("a snapshot of another format"));
    }
    let ranges = ranges(header)?;
    let mut received = folder.new_received(
        meta(
            header
                .state
                .as_ref()
                .ok_or_else(|| invalid("a snapshot without state"))?,
        )?,
        ranges,
    )?;
    received.files = write_files(&received, chunks)?;
    for file in &received.files {
        file.verify(&received.dir).map_err(io::Error::other)?;
    }
    Ok(received)
}

/// The header's ranges, with everything that an installation relies on.
fn ranges(header: &SnapshotHeader) -> io::Result<Vec<RowRange>> {
    let ranges = header
        .ranges
        .iter()
        .map(to_range)
        .collect::<io::Result<Vec<_>>>()?;
    for (number, range) in ranges.iter().enumerate() {
        let before = ranges
            .get(..number)
            .and_then(|before| before.iter().rfind(|before| before.table == range.table));
        if range.from >= range.to || before.is_some_and(|before| before.to > range.from) {
            return Err(invalid("a snapshot whose ranges are out of order"));
        }
    }
    let applied = key::applied(ShardId(header.shard));
    let has_applied = |range: &RowRange| {
        range.table == Table::Meta && range.from <= applied && applied < range.to
    };
    if !ranges.iter().any(has_applied) {
        return Err(invalid("a snapshot without its applied state"));
    }
    Ok(ranges)
}

fn write_files(
    received: &ReceivedRows,
    mut chunks: mpsc::Receiver<SnapshotChunk>,
) -> io::Result<Vec<RowFile>> {
    let options = RowFileOptions::default();
    let mut files = RowFiles::new(&options, &received.dir);
    let (mut current, mut count) = (0, 0);
    loop {
        let chunk = chunks
            .blocking_recv()
            .ok_or_else(|| invalid("a snapshot ended before it was whole"))?;
        if chunk.range < current {
            return Err(invalid("a snapshot whose ranges are out of order"));
        }
        if chunk.range > current {
            files.finish_file().map_err(io::Error::other)?;
            current = chunk.range;
        }
        let range = received
            .ranges
            .get(current as usize)
            .ok_or_else(|| invalid("a snapshot with rows of no range"))?;
        for row in &chunk.rows {
            if *row.key < *range.from || *row.key >= *range.to {
                return Err(invalid("a snapshot with a row outside its range"));
            }
            files
                .put(range.table, &row.key, &row.value)
                .map_err(io::Error::other)?;
        }
        count += chunk.rows.len() as u64;
        match chunk.end {
            None => {}
            Some(end) if end.rows == count => break,
            Some(_) => return Err(invalid("a snapshot with rows missing")),
        }
    }
    files.finish().map_err(io::Error::other)
}
