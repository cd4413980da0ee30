//! [`QuicLink`]: the door to a node's QUIC endpoint, with its connections.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    SnapshotChunk, SnapshotHeader, SnapshotResponse, StreamHello, peer_message::Body,
};
use parlance_proto::tls::TlsIdentity;
use parlance_proto::version::{PEER_PROTOCOLS, greeting};
use parlance_tls::ClusterTls;
use quinn::{Endpoint, EndpointConfig, TransportConfig};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::dial::Outbound;
use super::endpoint::{bind, certificates, configs, transport};
use super::{
    Directory, Lane, LocalIdentity, PeerError, PeerHandler, PeerLink, RaftInbound, listener,
};
use crate::clock::{Environment, SystemEnvironment};
use crate::raft::RaftConfig;

const IDLE_MAX: Duration = Duration::from_secs(2);
const REDIAL_AFTER: Duration = Duration::from_millis(50);

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
    /// Of this process, so that others know one that is gone from it.
    instance_id: String,
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
                instance_id: SystemEnvironment.random_id(),
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

    /// The connection that is dialled, if it is up.
    #[cfg(test)]
    pub(crate) fn connection(&self, to: NodeId) -> Option<quinn::Connection> {
        self.shared.outbound.lock().get(&to)?.connection()
    }
}

impl Shared {
    /// What each stream begins with.
    pub(super) fn hello(&self) -> StreamHello {
        let identity = self.identity.read();
        StreamHello {
            protocol: greeting(PEER_PROTOCOLS),
            cluster_id: identity.cluster_id.clone(),
            node_id: self.node_id.0,
            store_id: identity.store_id.clone(),
            instance_id: self.instance_id.clone(),
        }
    }

    /// This process of a node has dialled this one: it is there, perhaps since a moment ago.
    pub(super) fn has_dialled(&self, node: NodeId, instance_id: &str) {
        let peer = self.outbound.lock().get(&node).cloned();
        if let Some(peer) = peer {
            peer.is_there(instance_id);
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
