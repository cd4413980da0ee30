//! The connection to one other node: dialled at the first message, dialled again with back-off when it is lost.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    PeerMessage, SnapshotChunk, SnapshotHeader, SnapshotResponse, peer_message::Body,
};
use parlance_proto::tls::node_name;
use quinn::{Connection, ConnectionError, TransportErrorCode};
use rustls::AlertDescription;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::live::{Call, Live, read_answers};
use super::quic::Shared;
use super::{Lane, PeerError, snapshot_stream};
use crate::raft::metrics;

/// Back-off doubles as often as this at most.
const DOUBLED_MAX: u32 = 4;
/// A handshake with a node that is there has ended by then, as a rule.
const HANDSHAKE_USUAL: Duration = Duration::from_millis(100);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// A node that nobody has anything to say to for this long is not dialled any more.
const UNUSED_MAX: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

/// Up → down when the connection is lost; down → connecting after the back-off; connecting → up or down.
#[derive(Clone)]
enum State {
    Connecting,
    Down(String),
    Up(Arc<Live>),
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

    /// This process of the node has dialled this one: it is dialled at once if it is not connected. A connection to an
    /// earlier one is dead: nothing comes back, not even that it is gone. One to this process is as good as it was.
    pub(super) fn is_there(&self, instance_id: &str) {
        match self.live() {
            None => self.there.notify_one(),
            Some(live) if live.is_to_another_than(instance_id) => {
                live.connection
                    .close(6u32.into(), b"to a process that is gone");
                self.there.notify_one();
            }
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
            let hello = shared.hello();
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
    Ok(Live::new(shared, connection))
}
