//! A snapshot on a stream of its own, behind everything else: header, chunks, and the answer on the way back.

use std::future::Future;
use std::io;
use std::time::Duration;

use parlance_proto::ids::NodeId;
use parlance_proto::raft::v1::{SnapshotChunk, SnapshotHeader, SnapshotResponse, StreamHello};
use prost::Message;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame;
use super::listener::{Admission, admission};
use super::quic::Shared;
use crate::raft::metrics;

/// Chunks in memory between the network and the disk.
const CHUNKS_IN_MEMORY: usize = 4;
const PRIORITY: i32 = -10;
/// A transfer in which nothing moves for this long is cut off: the sender's view of its store must not live for ever.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Taking the rows into the store, once all have arrived.
const INSTALL_MAX: Duration = Duration::from_secs(30 * 60);
/// A receiver that does not want the rest says why.
const REASON_WITHIN: Duration = Duration::from_secs(1);

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.map_err(io::Error::other)?
}

pub(super) async fn send(
    connection: &Connection,
    hello: &StreamHello,
    header: SnapshotHeader,
    mut chunks: mpsc::Receiver<SnapshotChunk>,
) -> io::Result<SnapshotResponse> {
    let (mut stream, mut back) = connection.open_bi().await?;
    let _ = stream.set_priority(PRIORITY);
    let rows = async {
        within(STALL_MAX, frame::write(&mut stream, hello)).await?;
        within(STALL_MAX, frame::write(&mut stream, &header)).await?;
        while let Some(chunk) = chunks.recv().await {
            let bytes = chunk.encoded_len();
            within(STALL_MAX, frame::write(&mut stream, &chunk)).await?;
            metrics::snapshot_bytes("sent", bytes);
        }
        Ok(stream.finish()?)
    };
    let sent = rows.await;
    drop(chunks); // and with it the view of the rows
    let answer_within = if sent.is_ok() {
        INSTALL_MAX
    } else {
        REASON_WITHIN
    };
    let response = within(answer_within, frame::read::<SnapshotResponse>(&mut back)).await;
    match (sent, response) {
        (_, Ok(Some(response))) => {
            if response.error.is_empty() {
                metrics::snapshot("sent");
            }
            Ok(response)
        }
        (Err(e), _) | (Ok(()), Err(e)) => Err(e),
        (Ok(()), Ok(None)) => Err(frame::invalid("a snapshot was not answered".to_owned())),
    }
}

pub(super) async fn receive(
    shared: &Shared,
    from: NodeId,
    mut back: SendStream,
    mut stream: RecvStream,
) -> io::Result<()> {
    let hello = frame::read_hello(&mut stream, from).await?;
    if admission(shared, from, &hello) != Admission::Member {
        return Err(frame::invalid(
            "snapshot of a node that is not a member".to_owned(),
        ));
    }
    let header: SnapshotHeader = frame::read(&mut stream)
        .await?
        .ok_or_else(|| frame::invalid("snapshot without header".to_owned()))?;
    let raft = shared
        .raft
        .read()
        .clone()
        .ok_or_else(|| io::Error::other("the node is starting or stopping"))?;
    let (sender, chunks) = mpsc::channel(CHUNKS_IN_MEMORY);
    let install = raft.snapshot(from, header, chunks);
    let read = async move {
        while let Some(chunk) = within(STALL_MAX, frame::read::<SnapshotChunk>(&mut stream)).await?
        {
            metrics::snapshot_bytes("received", chunk.encoded_len());
            if sender.send(chunk).await.is_err() {
                break; // not wanted any more: the answer says why
            }
        }
        Ok::<_, io::Error>(())
    };
    let (read, response) = tokio::join!(read, install);
    read?;
    frame::write(&mut back, &response).await?;
    back.finish()?;
    // Dropping the stream before the answer has arrived would cut it off.
    let _ = back.stopped().await;
    Ok(())
}
