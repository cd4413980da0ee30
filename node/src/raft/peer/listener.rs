//! Takes other nodes' connections, checks who they are, and hands their messages on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    CallError, PeerFrame, PeerMessage, StreamHello, call_error::Reason, peer_message::Body,
};
use parlance_proto::tls::{Role, role_of};
use quinn::{Connection, RecvStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::endpoint::certificates;
use super::quic::Shared;
use super::writer::Streams;
use super::{Lane, frame, snapshot_stream};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Accepts until the link is shut down.
pub(super) async fn accept(shared: Arc<Shared>) {
    while let Some(Some(incoming)) = shared
        .stop
        .run_until_cancelled(shared.endpoint.accept())
        .await
    {
        let shared = shared.clone();
        tokio::spawn(async move {
            let from = incoming.remote_address();
            if let Err(error) = serve(shared, incoming).await {
                tracing::debug!(%from, %error, "a connection of a node ended");
            }
        });
    }
}

async fn serve(shared: Arc<Shared>, incoming: quinn::Incoming) -> io::Result<()> {
    let connection = timeout(HANDSHAKE_TIMEOUT, incoming.into_future())
        .await
        .map_err(io::Error::other)??;
    let from = match certified_node(&connection) {
        Ok(from) => from,
        Err(error) => {
            tracing::warn!(address = %connection.remote_address(), %error, "a connection is refused");
            connection.close(3u32.into(), b"not a node's certificate");
            return Err(error);
        }
    };
    let id = connection.stable_id();
    shared.inbound.lock().insert(id, connection.clone());
    shared.cut_if_denied(&connection);
    let streams = Streams::start(&connection, &shared.hello());
    let result = read_streams(&shared, &connection, from, &streams).await;
    shared.inbound.lock().remove(&id);
    result
}

/// The node that the client's certificate speaks for.
fn certified_node(connection: &Connection) -> io::Result<NodeId> {
    let refused = || frame::invalid("the certificate is not a node's".to_owned());
    let chain = certificates(connection).ok_or_else(refused)?;
    match chain.first().map(role_of) {
        Some(Ok(Role::Node(id))) => Ok(NodeId(id)),
        _ => Err(refused()),
    }
}

async fn read_streams(
    shared: &Arc<Shared>,
    connection: &Connection,
    from: NodeId,
    streams: &Streams,
) -> io::Result<()> {
    loop {
        tokio::select! {
            stream = connection.accept_uni() => {
                let requests = Requests { shared: shared.clone(), from, streams: streams.clone() };
                let (stream, connection) = (stream?, connection.clone());
                tokio::spawn(async move {
                    if let Err(error) = requests.read(stream).await {
                        tracing::debug!(node = %from, %error, "requests are not read any more");
                        connection.close(4u32.into(), b"bad requests");
                    }
                });
            }
            stream = connection.accept_bi() => {
                let (send, receive) = stream?;
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(error) = snapshot_stream::receive(&shared, from, send, receive).await {
                        tracing::info!(node = %from, %error, "a snapshot was not received");
                    }
                });
            }
        }
    }
}

/// What the sender of a stream may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// Anything.
    Member,
    /// Only to be taken into a cluster.
    Invite,
    /// Nothing.
    Refused(String),
}

pub(super) fn admission(shared: &Shared, from: NodeId, hello: &StreamHello) -> Admission {
    let cluster_id = shared.identity.read().cluster_id.clone();
    if cluster_id.is_empty() || hello.cluster_id != cluster_id {
        return Admission::Invite;
    }
    let known = shared.directory.store_id(from).filter(|id| !id.is_empty());
    match known {
        Some(known) if known != hello.store_id => Admission::Refused(format!(
            "node {from} has another data directory than the cluster map says"
        )),
        _ => Admission::Member,
    }
}

fn lane_of(body: &Body) -> Lane {
    match body {
        Body::Append(_) => Lane::Append,
        Body::Relay(_) => Lane::Relay,
        _ => Lane::Control,
    }
}

fn is_raft(body: &Body) -> bool {
    matches!(
        body,
        Body::Append(_) | Body::Vote(_) | Body::PreVote(_) | Body::TransferLeader(_)
    )
}

pub(in crate::raft) fn call_error(reason: Reason, message: impl Into<String>) -> Body {
    Body::Error(CallError {
        reason: reason.into(),
        message: message.into(),
    })
}

/// Reads the requests of one stream.
struct Requests {
    shared: Arc<Shared>,
    from: NodeId,
    streams: Streams,
}

impl Requests {
    async fn read(&self, mut stream: RecvStream) -> io::Result<()> {
        let hello = frame::read_hello(&mut stream, self.from).await?;
        if !matches!(
            admission(&self.shared, self.from, &hello),
            Admission::Refused(_)
        ) {
            self.shared.has_dialled(self.from, &hello.instance_id);
        }
        while let Some(frame) = frame::read::<PeerFrame>(&mut stream).await? {
            let admission = admission(&self.shared, self.from, &hello);
            for PeerMessage {
                call_id,
                shard,
                body,
            } in frame.messages
            {
                let Some(body) = body else { continue };
                self.dispatch(&admission, call_id, ShardId(shard), body);
            }
        }
        Ok(())
    }

    fn dispatch(&self, admission: &Admission, call_id: u64, shard: ShardId, body: Body) {
        let queue = self.streams.queue(lane_of(&body).stream()).clone();
        let refused = match admission {
            Admission::Member => None,
            Admission::Invite if matches!(body, Body::Invite(_)) => None,
            Admission::Invite => Some("not a member of the same cluster".to_owned()),
            Admission::Refused(reason) => Some(reason.clone()),
        };
        if let Some(reason) = refused {
            tracing::debug!(node = %self.from, reason, "a message is refused");
            return answer(
                &queue,
                call_id,
                shard,
                Some(call_error(Reason::Refused, reason)),
            );
        }
        let mut work = if is_raft(&body) {
            let Some(raft) = self.shared.raft.read().clone() else {
                let error = call_error(Reason::Stopped, "the node is starting or stopping");
                return answer(&queue, call_id, shard, Some(error));
            };
            let work = raft.handle(self.from, shard, body);
            async move { Some(work.await) }.boxed()
        } else {
            self.shared.handler.handle(self.from, shard, body)
        };
        // The first poll puts Raft's messages into their shard's queue in the order of the stream.
        if let Some(body) = tokio::task::unconstrained(&mut work).now_or_never() {
            return answer(&queue, call_id, shard, body);
        }
        tokio::spawn(async move {
            let body = work.await;
            answer(&queue, call_id, shard, body);
        });
    }
}

/// An answer that finds no room is dropped: the caller's time-out covers it, and the queue stays bounded.
fn answer(queue: &mpsc::Sender<PeerMessage>, call_id: u64, shard: ShardId, body: Option<Body>) {
    if call_id != 0 && body.is_some() {
        let _ = queue.try_send(PeerMessage {
            call_id,
            shard: shard.0,
            body,
        });
    }
}
