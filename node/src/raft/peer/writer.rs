//! The writing end of one stream: whatever waits in its queue goes out as one frame and one write.

use parlance_proto::ids::NodeId;
use parlance_proto::raft::v1::{PeerFrame, PeerMessage, StreamHello};
use prost::Message;
use quinn::{Connection, SendStream};
use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::{Lane, STREAMS, frame};
use crate::raft::metrics::StreamMetrics;

/// Messages that may wait for one stream.
const QUEUE_MESSAGES_MAX: usize = 16 * 1024;
/// Messages in one frame.
const FRAME_MESSAGES_MAX: usize = 256;
/// Bytes after which a frame takes no more messages.
const FRAME_BYTES_TARGET: usize = 1 << 20;

/// The queues of a connection's streams.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    queues: [mpsc::Sender<PeerMessage>; STREAMS],
}

impl Streams {
    /// Starts a writer for each stream. They end with the connection.
    pub(super) fn start(connection: &Connection, hello: &StreamHello) -> Self {
        let queues = std::array::from_fn(|stream| {
            let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
            tokio::spawn(write(
                connection.clone(),
                hello.clone(),
                Lane::of_stream(stream),
                receiver,
            ));
            sender
        });
        Self { queues }
    }

    pub(super) fn queue(&self, stream: usize) -> &mpsc::Sender<PeerMessage> {
        &self.queues[stream % STREAMS]
    }
}

async fn write(
    connection: Connection,
    hello: StreamHello,
    lane: Lane,
    mut queue: mpsc::Receiver<PeerMessage>,
) {
    let closing = connection.clone();
    tokio::select! {
        result = write_until_closed(&connection, &hello, lane, &mut queue) => {
            if let Err(error) = result {
                tracing::debug!(%error, lane = lane.name(), "a stream to a node broke");
                connection.close(1u32.into(), b"stream broke");
            }
        }
        _ = closing.closed() => {}
    }
}

async fn write_until_closed(
    connection: &Connection,
    hello: &StreamHello,
    lane: Lane,
    queue: &mut mpsc::Receiver<PeerMessage>,
) -> std::io::Result<()> {
    let metrics = StreamMetrics::new(NodeId(hello.node_id), lane.name());
    // One stream says at once which process this is; the others are opened with their first message.
    let opened = match lane {
        Lane::Control => Some(open(connection, hello, lane).await?),
        Lane::Append | Lane::Relay => None,
    };
    let Some(mut next) = queue.recv().await else {
        return Ok(());
    };
    let mut stream = match opened {
        Some(stream) => stream,
        None => open(connection, hello, lane).await?,
    };
    loop {
        // What is about to be said goes along; votes and heartbeats do not wait for it.
        if lane != Lane::Control {
            yield_now().await;
        }
        let mut bytes = next.encoded_len();
        let mut messages = vec![next];
        while messages.len() < FRAME_MESSAGES_MAX && bytes < FRAME_BYTES_TARGET {
            let Ok(message) = queue.try_recv() else { break };
            bytes += message.encoded_len();
            messages.push(message);
        }
        metrics.frame(messages.len(), queue.len());
        frame::write(&mut stream, &PeerFrame { messages }).await?;
        let Some(message) = queue.recv().await else {
            return Ok(());
        };
        next = message;
    }
}

async fn open(
    connection: &Connection,
    hello: &StreamHello,
    lane: Lane,
) -> std::io::Result<SendStream> {
    let mut stream = connection.open_uni().await?;
    let _ = stream.set_priority(lane.priority());
    frame::write(&mut stream, hello).await?;
    Ok(stream)
}
