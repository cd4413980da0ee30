//! A node before and after it is in a cluster: what is there from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use parlance_proto::ids::NodeId;
use parlance_tls::{ClusterTls, Connections};
use tokio::sync::watch;

use super::directory::Nodes;
use super::error::{StartError, listen_error};
use super::heard::HeardNodes;
use super::peer_dispatch::PeerDispatcher;
use super::runtime::Runtime;
use crate::clock::{Environment, SystemEnvironment};
use crate::config::Config;
use crate::deliver::RelayReceiver;
use crate::link::Links;
use crate::meta::{Leaders, MetaState, MetaWatch};
use crate::raft::{PeerLink, QuicConfig, QuicLink};
use crate::shard::Shards;

/// Where the runtime is found, once there is one.
pub(super) type RuntimeSlot = Arc<RwLock<Option<Arc<Runtime>>>>;

/// A node before and after it is in a cluster.
pub struct NodeContext {
    pub(super) config: Config,
    pub(super) environment: Arc<dyn Environment>,
    pub(super) directory: Arc<Nodes>,
    pub(super) quic: QuicLink,
    pub(super) peers: Arc<dyn PeerLink>,
    pub(super) dispatcher: Arc<PeerDispatcher>,
    pub(super) relays: Arc<RelayReceiver>,
    pub(super) heard: HeardNodes,
    pub(super) meta: watch::Sender<Arc<MetaState>>,
    pub(super) runtime: RuntimeSlot,
    /// Held while the node becomes a member.
    pub(super) joining: tokio::sync::Mutex<()>,
    pub(super) failed: watch::Sender<Option<String>>,
    pub(super) tls: Arc<ClusterTls>,
    connections: Connections,
    links: Links,
    shards: Shards,
    leaders: Leaders,
}

impl NodeContext {
    /// Listens for other nodes; answers where, too.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(
        config: Config,
        tls: Arc<ClusterTls>,
    ) -> Result<(Arc<Self>, SocketAddr), StartError> {
        let failed = listen_error("raft_listen", config.raft_listen);
        let meta = watch::Sender::new(Arc::new(MetaState::default()));
        let directory = Arc::new(Nodes::new(meta.subscribe()));
        let links = Links::new(config.link_held_bytes_max);
        let (shards, leaders) = (Shards::default(), Leaders::default());
        let relays = Arc::new(RelayReceiver::new(
            shards.clone(),
            links.clone(),
            leaders.clone(),
        ));
        let (heard, runtime) = (HeardNodes::default(), RuntimeSlot::default());
        let dispatcher = Arc::new(PeerDispatcher::new(
            leaders.clone(),
            heard.clone(),
            relays.clone(),
            runtime.clone(),
        ));
        let quic_config = QuicConfig::new(config.node_id, config.raft_listen, config.raft.clone());
        let quic = QuicLink::start(&quic_config, &tls, directory.clone(), dispatcher.clone())
            .map_err(&failed)?;
        let address = quic.local_addr().map_err(&failed)?;
        let context = Arc::new(Self {
            environment: Arc::new(SystemEnvironment),
            directory,
            peers: Arc::new(quic.clone()),
            quic,
            dispatcher,
            relays,
            heard,
            meta,
            runtime,
            joining: tokio::sync::Mutex::default(),
            failed: watch::Sender::new(None),
            tls,
            connections: Connections::default(),
            links,
            shards,
            leaders,
            config,
        });
        super::join::accept_invitations(&context);
        super::denied::follow(&context);
        Ok((context, address))
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.config.node_id
    }

    /// What runs once the node is in a cluster.
    pub fn runtime(&self) -> Option<Arc<Runtime>> {
        self.runtime.read().clone()
    }

    /// Where other nodes are.
    pub fn directory(&self) -> &Nodes {
        &self.directory
    }

    /// The node's certificate.
    pub fn tls(&self) -> &Arc<ClusterTls> {
        &self.tls
    }

    /// Connections of gateways and operators.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The node's link sessions.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// The node's shards.
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Who leads what.
    pub fn leaders(&self) -> &Leaders {
        &self.leaders
    }

    /// The cluster map and the apps.
    pub fn meta(&self) -> MetaWatch {
        self.meta.subscribe()
    }

    /// Why the node cannot go on, once it cannot.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Stops what runs, but not yet the listener: [`NodeContext::close`] does.
    pub async fn stop(&self) {
        let runtime = self.runtime.write().take();
        if let Some(runtime) = runtime {
            runtime.shutdown().await;
        }
    }

    /// Says goodbye to the other nodes.
    pub async fn close(&self) {
        self.quic.shutdown().await;
    }
}
