//! A snapshot on a stream of its own, behind everything else: header, chunks, and the answer on the way back.

use std::io;

use bytes::Bytes;
use parlance_proto::raft::v1::{SnapshotChunk, SnapshotHeader, SnapshotResponse, StreamHello};
use quinn::{Connection, RecvStream, SendStream};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::frame;
use super::listener::{Admission, admission};
use super::quic::Shared;
use crate::raft::snapshot::SnapshotFiles;
use crate::raft::{NodeId, metrics};

const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks in memory between the network and the disk.
const CHUNKS_IN_MEMORY: usize = 4;
const PRIORITY: i32 = -10;

pub(super) async fn send(
    connection: &Connection,
    hello: &StreamHello,
    header: SnapshotHeader,
    files: SnapshotFiles,
) -> io::Result<SnapshotResponse> {
    // All are opened before the first is sent: a newer snapshot may remove the folder meanwhile.
    let mut opened = Vec::new();
    for file in files.files()? {
        opened.push(File::open(files.dir.join(&file.name)).await?);
    }
    let (mut stream, mut back) = connection.open_bi().await?;
    let _ = stream.set_priority(PRIORITY);
    frame::write(&mut stream, hello).await?;
    frame::write(&mut stream, &header).await?;
    for (number, mut file) in opened.into_iter().enumerate() {
        send_file(&mut stream, number as u32, &mut file).await?;
    }
    stream.finish()?;
    let response = frame::read::<SnapshotResponse>(&mut back).await?;
    metrics::snapshot("sent", files.size_bytes());
    response.ok_or_else(|| frame::invalid("a snapshot was not answered".to_owned()))
}

async fn send_file(stream: &mut SendStream, number: u32, file: &mut File) -> io::Result<()> {
    let mut offset = 0;
    loop {
        let mut data = vec![0; CHUNK_BYTES];
        let read = file.read(&mut data).await?;
        if read == 0 {
            return Ok(());
        }
        data.truncate(read);
        frame::write(
            stream,
            &SnapshotChunk {
                file: number,
                offset,
                data: Bytes::from(data),
            },
        )
        .await?;
        offset += read as u64;
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
            "snapshot of a node that is no member".to_owned(),
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
    let _turn = shared.receiving.acquire().await.map_err(io::Error::other)?;
    let (sender, chunks) = mpsc::channel(CHUNKS_IN_MEMORY);
    let install = raft.snapshot(from, header, chunks);
    let read = async move {
        while let Some(chunk) = frame::read::<SnapshotChunk>(&mut stream).await? {
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
