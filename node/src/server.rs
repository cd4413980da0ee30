//! The node as a whole: listeners first, then, once it is a member of a cluster, everything else.
//!
//! With an identity in its data directory a node is a member at once. With an empty directory it waits for an
//! invitation (`admin/bootstrap.rs`): from a cluster that is being made, or from one that wants it in the place of a
//! lost node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use parlance_proto::admin::v1::admin_server::AdminServer;
use parlance_proto::limits::LINK_FRAME_BYTES_MAX;
use parlance_proto::link::v1::link_server::LinkServer;
use parlance_proto::raft::v1::peer_message::Body;
use parlance_proto::shard::Group;
use parlance_proto::store::v1::{ClusterMap, Identity};
use parlance_proto::tls::{Role, TlsIdentity};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity as PemIdentity, Server, ServerTlsConfig};

use crate::admin::{AdminService, accept_invitation};
use crate::apply::decode;
use crate::clock::{Environment, SystemEnvironment};
use crate::config::Config;
use crate::directory::Nodes;
use crate::error::StartError;
use crate::identity;
use crate::link::{LinkService, Links};
use crate::member::{Member, Parts};
use crate::meta::{Leaders, MetaState};
use crate::metrics;
use crate::raft::{
    LocalIdentity, NodeId, PeerHandler, PeerLink, QuicConfig, QuicLink, RaftHost, RaftHostConfig,
};
use crate::seeds::refuse_if_known;
use crate::shard::Shards;
use crate::store::manifest::Existing;
use crate::store::rocks::{RocksStore, state_dir};
use crate::store::{StateStore, StoreError, Table, WriteSet, key};

/// Windows of a link, so that a burst for many sessions is not held back by the default of 64 KiB.
const LINK_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Pings on a link without traffic, so that both ends notice a broken path.
const LINK_KEEPALIVE: Duration = Duration::from_secs(2);

/// What a node is, before and after it is a member.
pub struct Shared {
    config: Config,
    environment: Arc<dyn Environment>,
    directory: Arc<Nodes>,
    quic: QuicLink,
    peers: Arc<dyn PeerLink>,
    links: Links,
    shards: Shards,
    leaders: Leaders,
    meta: watch::Sender<Arc<MetaState>>,
    member: RwLock<Option<Arc<Member>>>,
    joining: tokio::sync::Mutex<()>,
    failed: watch::Sender<Option<String>>,
}

impl Shared {
    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.config.node_id
    }

    /// Clock and randomness.
    pub fn environment(&self) -> &Arc<dyn Environment> {
        &self.environment
    }

    /// Where other nodes are.
    pub fn directory(&self) -> &Nodes {
        &self.directory
    }

    /// The way to other nodes.
    pub fn peers(&self) -> &Arc<dyn PeerLink> {
        &self.peers
    }

    /// The member, once the node is one.
    pub fn member(&self) -> Option<Arc<Member>> {
        self.member.read().clone()
    }

    /// Held while the node becomes a member.
    pub fn joining(&self) -> &tokio::sync::Mutex<()> {
        &self.joining
    }

    /// Makes the data directory and starts as a member. `map` says where the other nodes are until the meta group does.
    pub async fn join(
        self: &Arc<Self>,
        identity: Identity,
        map: &ClusterMap,
    ) -> Result<Arc<Member>, StartError> {
        identity::begin(&self.config.data_dir)?;
        let store = self.open_store(Existing::No).await?;
        let mut set = WriteSet::default();
        set.put(Table::Meta, key::invitation(), map.encode_to_vec());
        store.write(set)?;
        store.flush()?;
        self.start_member(identity, store, Existing::No).await
    }

    async fn open_store(&self, existing: Existing) -> Result<Arc<dyn StateStore>, StartError> {
        let dir = state_dir(&self.config.data_dir);
        let opened = tokio::task::spawn_blocking(move || RocksStore::open(&dir, existing)).await;
        let store = opened.map_err(|e| StoreError::Damaged {
            what: "state store".into(),
            reason: e.to_string(),
        })??;
        Ok(Arc::new(store))
    }

    async fn start_member(
        self: &Arc<Self>,
        identity: Identity,
        store: Arc<dyn StateStore>,
        existing: Existing,
    ) -> Result<Arc<Member>, StartError> {
        if let Some(row) = store.get(Table::Meta, &key::invitation())? {
            self.directory.suggest(&decode("invitation", &row)?);
        }
        let host = RaftHost::open(
            RaftHostConfig {
                node_id: identity.node_id,
                data_dir: self.config.data_dir.clone(),
                raft: self.config.raft.clone(),
                recover_torn_log: self.config.recover_torn_log,
                existing,
            },
            store.clone(),
            self.peers.clone(),
        )
        .await?;
        if existing == Existing::No {
            // Last: a node that is killed before this was never a member.
            identity::write(&self.config.data_dir, &identity)?;
            let (cluster, node) = (&identity.cluster_id, identity.node_id);
            tracing::info!(cluster, node, "this node is a member now");
        }
        self.watch_disk(&host);
        let local = LocalIdentity {
            cluster_id: identity.cluster_id.clone(),
            store_id: identity.store_id.clone(),
        };
        self.quic.attach(local, host.inbound());
        let member = Member::start(Parts {
            config: self.config.clone(),
            identity,
            store,
            host,
            peers: self.peers.clone(),
            environment: self.environment.clone(),
            meta: self.meta.clone(),
            links: self.links.clone(),
            shards: self.shards.clone(),
            leaders: self.leaders.clone(),
            leave: Box::new({
                let quic = self.quic.clone();
                move || quic.detach()
            }),
            failed: self.failed.clone(),
        })
        .await?;
        *self.member.write() = Some(member.clone());
        Ok(member)
    }

    /// A failed disk ends the process: nothing that it acknowledged after could be believed.
    fn watch_disk(&self, host: &RaftHost) {
        let (mut failing, failed) = (host.failed(), self.failed.clone());
        tokio::spawn(async move {
            if let Ok(reason) = failing.wait_for(Option::is_some).await {
                failed.send_replace(reason.clone());
            }
        });
    }
}

/// Takes what other nodes say beside Raft.
struct Desk {
    shared: Mutex<std::sync::Weak<Shared>>,
}

impl PeerHandler for Desk {
    fn handle(&self, from: NodeId, _group: Group, body: Body) -> BoxFuture<'static, Option<Body>> {
        let shared = self.shared.lock().upgrade();
        Box::pin(async move {
            let shared = shared?;
            match body {
                Body::Invite(invitation) => Some(Body::InviteResponse(
                    accept_invitation(&shared, invitation).await,
                )),
                Body::Leaders(announcement) => {
                    shared.leaders.hear(from, &announcement);
                    None
                }
                Body::Relay(request) => {
                    let member = shared.member()?;
                    Some(Body::RelayResponse(member.home().take(request).await))
                }
                Body::Forward(request) => shared
                    .member()?
                    .forwarded(request)
                    .await
                    .map(Body::ForwardResponse),
                _ => None,
            }
        })
    }
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    raft_address: SocketAddr,
    link_address: SocketAddr,
    grpc: tokio::task::JoinHandle<()>,
    stop_grpc: CancellationToken,
    stop_links: CancellationToken,
    /// The data directory is this process's until the node is gone.
    _lock: std::fs::File,
}

impl Node {
    /// Starts a node; on return it serves, as a member or waiting to become one.
    ///
    /// # Errors
    /// Settings, certificates, addresses, and data directories that are damaged or somebody else's.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.validate().map_err(StartError::Config)?;
        metrics::describe();
        let tls = TlsIdentity::load(&config.tls)?;
        if tls.role != Role::Node(config.node_id) {
            return Err(StartError::WrongCertificate {
                node_id: config.node_id,
                certificate: tls.role,
            });
        }
        // Before anything is read: what a node left half made is removed then.
        let lock = identity::lock(&config.data_dir)?;
        let identity = identity::read(&config.data_dir, config.node_id)?;
        if identity.is_none() {
            refuse_if_known(&config, &tls).await?;
        }
        let (listener, link_address) = bind_link(config.link_listen).await?;
        let (shared, raft_address) = bind_raft(config, &tls)?;
        match identity {
            Some(identity) => {
                let store = shared.open_store(Existing::Required).await?;
                shared
                    .start_member(identity, store, Existing::Required)
                    .await?;
            }
            None => tracing::info!(
                node = shared.node_id(),
                "the data directory is empty: this node waits for parlance cluster init or parlance node replace"
            ),
        }
        let (stop_grpc, stop_links) = (CancellationToken::new(), CancellationToken::new());
        let grpc = serve_grpc(
            &shared,
            &tls,
            listener,
            stop_grpc.clone(),
            stop_links.clone(),
        )?;
        Ok(Self {
            shared,
            raft_address,
            link_address,
            grpc,
            stop_grpc,
            stop_links,
            _lock: lock,
        })
    }

    /// Its id.
    pub fn node_id(&self) -> u64 {
        self.shared.node_id()
    }

    /// Where gateways and operators reach it.
    pub fn link_address(&self) -> SocketAddr {
        self.link_address
    }

    /// Where other nodes reach it (UDP).
    pub fn raft_address(&self) -> SocketAddr {
        self.raft_address
    }

    /// Whether it serves: it is a member, knows the cluster map, and each of its groups has a leader.
    ///
    /// # Errors
    /// What is missing, for people.
    pub fn ready(&self) -> Result<(), String> {
        let member = self
            .shared
            .member()
            .ok_or("waits to become a member of a cluster")?;
        let state = member.meta().borrow().clone();
        let map = state
            .map
            .as_ref()
            .ok_or("does not have the cluster map yet")?;
        let wanted = map
            .shards
            .iter()
            .filter(|shard| shard.replicas.contains(&self.node_id()))
            .count();
        let groups = member.groups();
        if groups.len() < wanted + 1 {
            return Err(format!(
                "has started {} of {} groups",
                groups.len(),
                wanted + 1
            ));
        }
        let leaderless = groups
            .iter()
            .filter(|raft| raft.leadership().borrow().leader.is_none())
            .count();
        if leaderless > 0 {
            return Err(format!(
                "{leaderless} of {} groups have no leader that this node knows",
                groups.len()
            ));
        }
        Ok(())
    }

    /// Resolves with the reason when the node cannot go on and the process should end.
    pub async fn failed(&self) -> String {
        let mut failed = self.shared.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops in order: leaderships to others, links, groups, disk.
    pub async fn shutdown(self) {
        let member = self.shared.member.write().take();
        if let Some(member) = member {
            member.shutdown().await;
        }
        self.stop_links.cancel();
        self.stop_grpc.cancel();
        if tokio::time::timeout(Duration::from_secs(2), self.grpc)
            .await
            .is_err()
        {
            tracing::debug!("grpc connections were cut off");
        }
        self.shared.quic.shutdown().await;
    }
}

fn listen_error(what: &'static str, address: SocketAddr) -> impl Fn(std::io::Error) -> StartError {
    move |source| StartError::Listen {
        what,
        address,
        source,
    }
}

async fn bind_link(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = listen_error("link_listen", address);
    let listener = TcpListener::bind(address).await.map_err(&failed)?;
    let bound = listener.local_addr().map_err(&failed)?;
    Ok((listener, bound))
}

/// Listens for other nodes; what they say beside Raft goes to the new [`Shared`].
fn bind_raft(config: Config, tls: &TlsIdentity) -> Result<(Arc<Shared>, SocketAddr), StartError> {
    let failed = listen_error("raft_listen", config.raft_listen);
    let meta = watch::Sender::new(Arc::new(MetaState::default()));
    let directory = Arc::new(Nodes::new(meta.subscribe()));
    let desk = Arc::new(Desk {
        shared: Mutex::default(),
    });
    let quic_config = QuicConfig {
        node_id: config.node_id,
        listen: config.raft_listen,
        raft: config.raft.clone(),
    };
    let quic =
        QuicLink::start(&quic_config, tls, directory.clone(), desk.clone()).map_err(&failed)?;
    let address = quic.local_addr().map_err(&failed)?;
    let shared = Arc::new(Shared {
        environment: Arc::new(SystemEnvironment),
        directory,
        peers: Arc::new(quic.clone()),
        quic,
        links: Links::default(),
        shards: Shards::default(),
        leaders: Leaders::default(),
        meta,
        member: RwLock::new(None),
        joining: tokio::sync::Mutex::default(),
        failed: watch::Sender::new(None),
        config,
    });
    *desk.shared.lock() = Arc::downgrade(&shared);
    Ok((shared, address))
}

fn serve_grpc(
    shared: &Arc<Shared>,
    tls: &TlsIdentity,
    listener: TcpListener,
    stop: CancellationToken,
    stop_links: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, StartError> {
    let link = LinkService {
        node_id: shared.node_id(),
        shards: shared.shards.clone(),
        links: shared.links.clone(),
        meta: shared.meta.subscribe(),
        leaders: shared.leaders.clone(),
        stop: stop_links,
    };
    let tls = ServerTlsConfig::new()
        .identity(PemIdentity::from_pem(&tls.cert_pem, &tls.key_pem))
        .client_ca_root(Certificate::from_pem(&tls.ca_pem));
    let server = Server::builder()
        .tls_config(tls)?
        .initial_stream_window_size(LINK_WINDOW_BYTES)
        .initial_connection_window_size(LINK_WINDOW_BYTES * 2)
        .http2_keepalive_interval(Some(LINK_KEEPALIVE))
        .http2_keepalive_timeout(Some(LINK_KEEPALIVE))
        .add_service(
            LinkServer::new(link)
                .max_decoding_message_size(LINK_FRAME_BYTES_MAX)
                .max_encoding_message_size(LINK_FRAME_BYTES_MAX),
        )
        .add_service(AdminServer::new(AdminService {
            shared: shared.clone(),
        }));
    Ok(tokio::spawn(async move {
        // The server's own setting would not reach a listener that was bound elsewhere.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the grpc server ended");
        }
    }))
}
