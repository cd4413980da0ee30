//! One connection to another node: calls on it, and their answers.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{PeerFrame, PeerMessage, peer_message::Body};
use quinn::{Connection, RecvStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::quic::Shared;
use super::writer::Streams;
use super::{Lane, PeerError, frame};
use crate::raft::metrics;

/// One connection that is up.
pub(super) struct Live {
    pub(super) connection: Connection,
    pub(super) streams: Streams,
    /// The process at the other end, as it has said in its answers.
    instance_id: OnceLock<String>,
    calls: Mutex<HashMap<u64, oneshot::Sender<Body>>>,
    next_call: AtomicU64,
}

impl Live {
    pub(super) fn new(shared: &Shared, connection: Connection) -> Arc<Self> {
        Arc::new(Self {
            streams: Streams::start(&connection, &shared.hello()),
            connection,
            instance_id: OnceLock::new(),
            calls: Mutex::default(),
            next_call: AtomicU64::new(1),
        })
    }

    /// False as well while it has not said who it is.
    pub(super) fn is_to_another_than(&self, instance_id: &str) -> bool {
        let known = self.instance_id.get();
        known.is_some_and(|known| known != instance_id)
    }
}

/// A call that waits for its answer; forgotten when dropped.
pub(super) struct Call {
    live: Arc<Live>,
    node: NodeId,
    id: u64,
    answer: oneshot::Receiver<Body>,
}

impl Call {
    pub(super) fn queue(
        live: Arc<Live>,
        node: NodeId,
        lane: Lane,
        shard: ShardId,
        body: Body,
    ) -> Result<Self, PeerError> {
        let id = live.next_call.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        live.calls.lock().insert(id, sender);
        let message = PeerMessage {
            call_id: id,
            shard: shard.0,
            body: Some(body),
        };
        let queued = live.streams.queue(lane.stream()).try_send(message);
        let call = Self {
            live,
            node,
            id,
            answer,
        };
        match queued {
            Ok(()) => Ok(call),
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::peer_dropped(lane.name());
                Err(PeerError::Overloaded { node })
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(PeerError::Unreachable {
                node,
                reason: "the connection was lost".to_owned(),
            }),
        }
    }

    pub(super) async fn answer(mut self, within: Duration) -> Result<Body, PeerError> {
        let node = self.node;
        let lost = || PeerError::Unreachable {
            node,
            reason: "the connection was lost".to_owned(),
        };
        let answered = tokio::select! {
            answered = timeout(within, &mut self.answer) => answered,
            _ = self.live.connection.closed() => return Err(lost()),
        };
        match answered {
            Ok(Ok(Body::Error(error))) => Err(PeerError::Refused {
                node,
                reason: error.message,
            }),
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(PeerError::Timeout {
                node,
                timeout: within,
            }),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.live.calls.lock().remove(&self.id);
    }
}

/// Until the connection ends.
pub(super) async fn read_answers(shared: Arc<Shared>, from: NodeId, live: Arc<Live>) {
    while let Ok(stream) = live.connection.accept_uni().await {
        let (shared, live) = (shared.clone(), live.clone());
        tokio::spawn(async move {
            if let Err(error) = read_answer_stream(&shared, from, &live, stream).await {
                tracing::debug!(node = %from, %error, "answers are not read any more");
                live.connection.close(2u32.into(), b"bad answers");
            }
        });
    }
    // Whoever still waits learns that no answer comes.
    live.calls.lock().clear();
}

async fn read_answer_stream(
    shared: &Shared,
    from: NodeId,
    live: &Live,
    mut stream: RecvStream,
) -> io::Result<()> {
    let hello = frame::read_hello(&mut stream, from).await?;
    let known = shared.directory.store_id(from).filter(|id| !id.is_empty());
    if known.is_some_and(|known| !hello.store_id.is_empty() && hello.store_id != known) {
        return Err(frame::invalid(format!(
            "node {from} has another data directory than the cluster map says"
        )));
    }
    let _ = live.instance_id.set(hello.instance_id); // the same on each stream
    while let Some(frame) = frame::read::<PeerFrame>(&mut stream).await? {
        for message in frame.messages {
            let waiting = live.calls.lock().remove(&message.call_id);
            if let (Some(waiting), Some(body)) = (waiting, message.body) {
                let _ = waiting.send(body);
            }
        }
    }
    Ok(())
}
