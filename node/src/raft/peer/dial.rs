//! The connection to one other node: dialled at the first message, dialled again with back-off when it is lost.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    PeerFrame, PeerMessage, SnapshotChunk, SnapshotHeader, SnapshotResponse, peer_message::Body,
};
use parlance_proto::tls::node_name;
use quinn::{Connection, ConnectionError, RecvStream, TransportErrorCode};
use rustls::AlertDescription;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::quic::Shared;
use super::writer::Streams;
use super::{Lane, PeerError, frame, snapshot_stream};
use crate::raft::metrics;

/// Back-off doubles as often as this at most.
const DOUBLED_MAX: u32 = 4;
/// A handshake with a node that is there has ended by then, as a rule.
const HANDSHAKE_USUAL: Duration = Duration::from_millis(100);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// Two nodes that dial each other at the same time leave connections alone that are not older.
const YOUNG_MAX: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 2000 });
/// A node that nobody has anything to say to for this long is not dialled any more.
const UNUSED_MAX: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

/// Up → down when the connection is lost; down → connecting after the back-off; connecting → up or down.
#[derive(Clone)]
enum State {
    Connecting,
    Down(String),
    Up(Arc<Live>),
}

/// One connection that is up.
struct Live {
    connection: Connection,
    streams: Streams,
    since: Instant,
    calls: Mutex<HashMap<u64, oneshot::Sender<Body>>>,
    next_call: AtomicU64,
}

/// The way to one node.
pub(super) struct Outbound {
    to: NodeId,
    state: watch::Receiver<State>,
    used: Mutex<Instant>,
    there: Arc<Notify>,
}

impl Outbound {
    pub(super) fn start(shared: Arc<Shared>, to: NodeId) -> Arc<Self> {
        let (sender, state) = watch::channel(State::Connecting);
        let there = Arc::<Notify>::default();
        tokio::spawn(keep_connected(shared, to, sender, there.clone()));
        let used = Mutex::new(Instant::now());
        Arc::new(Self {
            to,
            state,
            used,
            there,
        })
    }

    /// The node has just dialled this one: it is dialled at once if it is not connected. An old connection may be to a
    /// process that was killed, of which nothing comes back, not even that it is gone.
    pub(super) fn is_there(&self) {
        match self.live() {
            None => self.there.notify_one(),
            Some(live) if live.since.elapsed() > YOUNG_MAX => {
                live.connection
                    .close(6u32.into(), b"the node has dialled anew");
                self.there.notify_one();
            }
            // Else both would go on dialling anew because of each other.
            Some(_) => {}
        }
    }

    /// Something is to be said.
    pub(super) fn used(&self) {
        *self.used.lock() = Instant::now();
    }

    fn live(&self) -> Option<Arc<Live>> {
        match &*self.state.borrow() {
            State::Up(live) => Some(live.clone()),
            State::Connecting | State::Down(_) => None,
        }
    }

    /// The connection, if it is up.
    pub(super) fn connection(&self) -> Option<Connection> {
        self.live().map(|live| live.connection.clone())
    }

    pub(super) fn post(&self, lane: Lane, shard: ShardId, body: Body) {
        let Some(live) = self.live() else { return };
        let message = PeerMessage {
            call_id: 0,
            shard: shard.0,
            body: Some(body),
        };
        if live.streams.queue(lane.stream()).try_send(message).is_err() {
            metrics::peer_dropped(lane.name());
        }
    }

    pub(super) fn call(
        &self,
        lane: Lane,
        shard: ShardId,
        body: Body,
        within: Duration,
    ) -> BoxFuture<'static, Result<Body, PeerError>> {
        let node = self.to;
        if let Some(live) = self.live() {
            let queued = Call::queue(live, node, lane, shard, body);
            return Box::pin(async move { queued?.answer(within).await });
        }
        let mut state = self.state.clone();
        Box::pin(async move {
            let connected = timeout(within, connected(&mut state, node)).await;
            let live = connected.map_err(|_| PeerError::Timeout {
                node,
                timeout: within,
            })??;
            Call::queue(live, node, lane, shard, body)?
                .answer(within)
                .await
        })
    }

    pub(super) fn send_snapshot(
        &self,
        shared: Arc<Shared>,
        header: SnapshotHeader,
        chunks: mpsc::Receiver<SnapshotChunk>,
    ) -> BoxFuture<'static, Result<SnapshotResponse, PeerError>> {
        let (node, mut state) = (self.to, self.state.clone());
        Box::pin(async move {
            let unreachable = |e: io::Error| PeerError::Unreachable {
                node,
                reason: e.to_string(),
            };
            let live = connected(&mut state, node).await?;
            let hello = frame::hello(shared.node_id, &shared.identity.read());
            snapshot_stream::send(&live.connection, &hello, header, chunks)
                .await
                .map_err(unreachable)
        })
    }
}

/// Waits for a connection that is being made; fails if the try fails.
async fn connected(
    state: &mut watch::Receiver<State>,
    node: NodeId,
) -> Result<Arc<Live>, PeerError> {
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            State::Up(live) => return Ok(live),
            State::Down(reason) => return Err(PeerError::Unreachable { node, reason }),
            State::Connecting => {}
        }
        let stopped = |_| PeerError::Unreachable {
            node,
            reason: "the link is shut down".to_owned(),
        };
        state.changed().await.map_err(stopped)?;
    }
}

/// A call that waits for its answer; forgotten when dropped.
struct Call {
    live: Arc<Live>,
    node: NodeId,
    id: u64,
    answer: oneshot::Receiver<Body>,
}

impl Call {
    fn queue(
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

    async fn answer(mut self, within: Duration) -> Result<Body, PeerError> {
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

async fn keep_connected(
    shared: Arc<Shared>,
    to: NodeId,
    state: watch::Sender<State>,
    there: Arc<Notify>,
) {
    let (mut tries, mut told) = (0u32, false);
    let stop = shared.stop.clone();
    let work = async {
        loop {
            state.send_replace(State::Connecting);
            let dialled = tokio::select! {
                dialled = dial(&shared, to) => dialled,
                // The first packets went to nobody, and the next ones come at growing intervals.
                () = async {
                    sleep(HANDSHAKE_USUAL).await;
                    there.notified().await;
                } => continue,
            };
            let reason = match dialled {
                Ok(live) => {
                    tries = 0;
                    metrics::peer_connected();
                    tracing::debug!(node = %to, "connected");
                    tokio::spawn(read_answers(shared.clone(), to, live.clone()));
                    state.send_replace(State::Up(live.clone()));
                    shared.cut_if_denied(&live.connection);
                    let end = live.connection.closed().await;
                    if denies_us(&end) && !std::mem::replace(&mut told, true) {
                        tracing::error!(node = %to, "the other node says that this node's certificate is denied");
                    }
                    end.to_string()
                }
                Err(e) => e.to_string(),
            };
            tracing::debug!(node = %to, reason, "not connected");
            state.send_replace(State::Down(reason));
            if forgotten(&shared, to) {
                return;
            }
            let pause = backoff(shared.redial_after, tries, shared.node_id.0 ^ to.0);
            tokio::select! {
                () = sleep(pause) => {}
                () = there.notified() => {}
            }
            tries = tries.saturating_add(1);
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Gives up a node that nobody has anything to say to. Whoever has later begins anew.
fn forgotten(shared: &Shared, to: NodeId) -> bool {
    let mut outbound = shared.outbound.lock();
    let unused = |peer: &Arc<Outbound>| peer.used.lock().elapsed() > UNUSED_MAX;
    if outbound.get(&to).is_some_and(unused) {
        outbound.remove(&to);
        return true;
    }
    false
}

/// With TLS 1.3 the one who dials is up before the other side has judged its certificate.
fn denies_us(end: &ConnectionError) -> bool {
    let denied = TransportErrorCode::crypto(AlertDescription::CertificateRevoked.into());
    matches!(end, ConnectionError::ConnectionClosed(close) if close.error_code == denied)
}

/// Doubles from try to try, up to a third more, differently for each pair of nodes and try.
fn backoff(first: Duration, tries: u32, salt: u64) -> Duration {
    let base = first.saturating_mul(1 << tries.min(DOUBLED_MAX));
    let spread = (salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48)
        .wrapping_add(u64::from(tries) * 7919)
        % 333;
    base + base.mul_f64(spread as f64 / 1000.0)
}

async fn dial(shared: &Shared, to: NodeId) -> io::Result<Arc<Live>> {
    let address = shared
        .directory
        .address(to)
        .ok_or_else(|| io::Error::other("its address is not known"))?;
    let address: SocketAddr = tokio::net::lookup_host(&address)
        .await?
        .next()
        .ok_or_else(|| io::Error::other(format!("{address} has no address")))?;
    let connecting = shared
        .endpoint
        .connect_with(shared.client.read().clone(), address, &node_name(to.0))
        .map_err(io::Error::other)?;
    let connection = timeout(HANDSHAKE_TIMEOUT, connecting).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer from {address}"))
    })??;
    let streams = Streams::start(
        &connection,
        &frame::hello(shared.node_id, &shared.identity.read()),
    );
    Ok(Arc::new(Live {
        connection,
        streams,
        since: Instant::now(),
        calls: Mutex::default(),
        next_call: AtomicU64::new(1),
    }))
}

async fn read_answers(shared: Arc<Shared>, from: NodeId, live: Arc<Live>) {
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
