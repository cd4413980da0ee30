//! The QUIC endpoint of a node: socket, TLS, timers and windows; and [`QuicLink`], the door to it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    SnapshotChunk, SnapshotHeader, SnapshotResponse, peer_message::Body,
};
use parlance_proto::tls::TlsIdentity;
use parlance_tls::ClusterTls;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::dial::Outbound;
use super::{
    Directory, Lane, LocalIdentity, PeerError, PeerHandler, PeerLink, RaftInbound, listener,
};
use crate::raft::RaftConfig;

const ALPN: &[u8] = b"parlance-raft/1";
const KEEP_ALIVE: Duration = Duration::from_millis(500);
const IDLE_MAX: Duration = Duration::from_secs(2);
const REDIAL_AFTER: Duration = Duration::from_millis(50);
const INITIAL_RTT: Duration = Duration::from_millis(10);
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
const STREAMS_MAX: u32 = 1024;

/// What a link needs.
pub struct QuicConfig {
    /// This node; its certificate must say so too.
    pub node_id: NodeId,
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
    /// Sizes and switches.
    pub raft: RaftConfig,
    /// A node that cannot be reached is dialled again after this, and then after longer and longer.
    pub redial_after: Duration,
    /// One that says nothing for so long is dialled again.
    pub idle_max: Duration,
}

impl QuicConfig {
    /// With the usual pauses.
    pub fn new(node_id: NodeId, listen: SocketAddr, raft: RaftConfig) -> Self {
        Self {
            node_id,
            listen,
            raft,
            redial_after: REDIAL_AFTER,
            idle_max: IDLE_MAX,
        }
    }
}

/// [`PeerLink`] over QUIC. Clones are the same link.
#[derive(Clone)]
pub struct QuicLink {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) node_id: NodeId,
    pub(super) endpoint: Endpoint,
    pub(super) client: RwLock<quinn::ClientConfig>,
    tls: Arc<ClusterTls>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) identity: RwLock<LocalIdentity>,
    pub(super) handler: Arc<dyn PeerHandler>,
    pub(super) raft: RwLock<Option<Arc<dyn RaftInbound>>>,
    pub(super) outbound: Mutex<HashMap<NodeId, Arc<Outbound>>>,
    pub(super) inbound: Mutex<HashMap<usize, quinn::Connection>>,
    pub(super) redial_after: Duration,
    pub(super) stop: CancellationToken,
}

impl QuicLink {
    /// Binds the socket and takes connections. Raft's messages are refused until [`QuicLink::attach`].
    pub fn start(
        config: &QuicConfig,
        tls: &Arc<ClusterTls>,
        directory: Arc<dyn Directory>,
        handler: Arc<dyn PeerHandler>,
    ) -> io::Result<Self> {
        let transport = Arc::new(transport(config)?);
        let changes = tls.changes();
        let (server, client) = configs(tls, &transport)?;
        let socket = bind(config.listen, config.raft.udp_buffer_bytes)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket, runtime)?;
        let link = Self {
            shared: Arc::new(Shared {
                node_id: config.node_id,
                endpoint,
                client: RwLock::new(client),
                tls: tls.clone(),
                directory,
                identity: RwLock::default(),
                handler,
                raft: RwLock::new(None),
                outbound: Mutex::default(),
                inbound: Mutex::default(),
                redial_after: config.redial_after,
                stop: CancellationToken::new(),
            }),
        };
        tokio::spawn(listener::accept(link.shared.clone()));
        let shared = link.shared.clone();
        tokio::spawn(async move {
            let stop = shared.stop.clone();
            stop.run_until_cancelled(renew(&shared, changes, &transport))
                .await;
        });
        Ok(link)
    }

    /// Closes the connections of nodes whose certificate is denied.
    pub fn cut_denied(&self) {
        for connection in self.connections() {
            self.shared.cut_if_denied(&connection);
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.endpoint.local_addr()
    }

    /// The node is a member now: says so to others from here on, and lets Raft's messages through to `raft`.
    pub fn attach(&self, identity: LocalIdentity, raft: Arc<dyn RaftInbound>) {
        *self.shared.identity.write() = identity;
        *self.shared.raft.write() = Some(raft);
        // Connections that began with another identity begin again.
        self.close_connections(b"identity changed");
    }

    /// Lets no more of Raft's messages through: the replicas are about to stop.
    pub fn detach(&self) {
        *self.shared.raft.write() = None;
    }

    fn connections(&self) -> Vec<quinn::Connection> {
        let mut all: Vec<_> = self.shared.inbound.lock().values().cloned().collect();
        let outbound: Vec<_> = self.shared.outbound.lock().values().cloned().collect();
        all.extend(outbound.iter().filter_map(|peer| peer.connection()));
        all
    }

    fn close_connections(&self, reason: &[u8]) {
        let all = self.connections();
        all.iter()
            .for_each(|connection| connection.close(0u32.into(), reason));
    }

    /// Closes every connection and the socket.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        *self.shared.raft.write() = None;
        self.shared.endpoint.close(0u32.into(), b"shutting down");
        let _ =
            tokio::time::timeout(Duration::from_secs(1), self.shared.endpoint.wait_idle()).await;
    }

    fn outbound(&self, to: NodeId) -> Arc<Outbound> {
        let mut outbound = self.shared.outbound.lock();
        let start = || Outbound::start(self.shared.clone(), to);
        let peer = outbound.entry(to).or_insert_with(start);
        peer.used();
        peer.clone()
    }

    /// The nodes that are dialled, or were.
    #[cfg(test)]
    pub(crate) fn dialled(&self) -> Vec<NodeId> {
        self.shared.outbound.lock().keys().copied().collect()
    }
}

impl Shared {
    /// A node has dialled this one: it is there, perhaps since a moment ago.
    pub(super) fn has_dialled(&self, node: NodeId) {
        let peer = self.outbound.lock().get(&node).cloned();
        if let Some(peer) = peer {
            peer.is_there();
        }
    }

    /// Closes a connection if the other side's certificate is denied. A connection that has just come up is asked too: the
    /// list may have changed since its handshake.
    pub(super) fn cut_if_denied(&self, connection: &quinn::Connection) {
        let chain = certificates(connection);
        if self.tls.is_denied(chain.as_deref()) {
            let from = connection.remote_address();
            tracing::warn!(%from, "a connection is cut: the node's certificate is denied");
            connection.close(5u32.into(), b"certificate denied");
        }
    }
}

impl PeerLink for QuicLink {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        shard: ShardId,
        body: Body,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Body, PeerError>> {
        self.outbound(to).call(lane, shard, body, timeout)
    }

    fn post(&self, to: NodeId, lane: Lane, shard: ShardId, body: Body) {
        self.outbound(to).post(lane, shard, body);
    }

    fn send_snapshot(
        &self,
        to: NodeId,
        header: SnapshotHeader,
        chunks: mpsc::Receiver<SnapshotChunk>,
    ) -> BoxFuture<'static, Result<SnapshotResponse, PeerError>> {
        self.outbound(to)
            .send_snapshot(self.shared.clone(), header, chunks)
    }
}

/// The configurations with the certificate of the moment.
fn configs(
    tls: &ClusterTls,
    transport: &Arc<TransportConfig>,
) -> io::Result<(quinn::ServerConfig, quinn::ClientConfig)> {
    let server = tls.server_config(ALPN).map_err(io::Error::other)?;
    let server = QuicServerConfig::try_from(server).map_err(io::Error::other)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(transport.clone());
    let client = tls.client_config(ALPN).map_err(io::Error::other)?;
    let client = QuicClientConfig::try_from(client).map_err(io::Error::other)?;
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(transport.clone());
    Ok((server, client))
}

/// New connections use the certificate that is there by then; those that are there stay.
async fn renew(
    shared: &Shared,
    mut changes: watch::Receiver<Arc<TlsIdentity>>,
    transport: &Arc<TransportConfig>,
) {
    while changes.changed().await.is_ok() {
        match configs(&shared.tls, transport) {
            Ok((server, client)) => {
                shared.endpoint.set_server_config(Some(server));
                *shared.client.write() = client;
            }
            Err(error) => tracing::error!(%error, "the new certificate is not used between nodes"),
        }
    }
}

/// Those that the other side has shown.
pub(super) fn certificates(connection: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    let chain = connection.peer_identity()?;
    chain.downcast().ok().map(|chain| *chain)
}

fn transport(config: &QuicConfig) -> io::Result<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.max_idle_timeout(Some(
        IdleTimeout::try_from(config.idle_max).map_err(io::Error::other)?,
    ));
    transport.initial_rtt(INITIAL_RTT);
    transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES));
    transport.receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
    transport.send_window(u64::from(CONNECTION_WINDOW_BYTES));
    transport.max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX));
    transport.max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX));
    transport.send_fairness(false);
    transport.enable_segmentation_offload(config.raft.udp_segmentation_offload);
    Ok(transport)
}

/// A socket with room for a burst of packets: what does not fit there counts as lost on the network.
fn bind(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    socket.set_recv_buffer_size(buffer_bytes)?;
    socket.set_send_buffer_size(buffer_bytes)?;
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if receive < buffer_bytes || send < buffer_bytes {
        tracing::warn!(
            wanted = buffer_bytes,
            receive,
            send,
            "the kernel caps udp buffers: raise net.core.rmem_max and net.core.wmem_max, or bursts lose packets"
        );
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
