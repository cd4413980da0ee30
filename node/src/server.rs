//! The node as a whole: listeners first, then, once it is in a cluster, everything else.
//!
//! With an identity in its data directory a node is a member at once. With an empty directory it waits for an
//! invitation (`cluster/join.rs`): to a cluster that is being made, or in the place of a lost node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parlance_proto::admin::v1::admin_server::AdminServer;
use parlance_proto::ids::NodeId;
use parlance_proto::limits::LINK_FRAME_BYTES_MAX;
use parlance_proto::link::v1::link_server::LinkServer;
use parlance_proto::tls::Role;
use parlance_tls::{ClusterTls, Seldom};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::admin::{AdminService, notes};
use crate::api::Api;
use crate::cluster::{NodeContext, StartError, listen_error, resume, stored_identity};
use crate::config::Config;
use crate::link::{LinkService, incoming};
use crate::meta::watch_cluster;
use crate::metrics;

/// Windows of a link, so that a burst for many sessions is not held back by the default of 64 KiB.
const LINK_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Pings on a link without traffic, so that both ends notice a broken path.
const LINK_KEEPALIVE: Duration = Duration::from_secs(2);
/// How long calls under way may take when the node stops.
const GRPC_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A running node.
pub struct Node {
    context: Arc<NodeContext>,
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
    /// Settings, certificates, addresses, and data directories that are damaged or somebody else's; a cluster whose
    /// feature level this program does not speak.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.validate().map_err(StartError::Config)?;
        metrics::describe();
        let tls = ClusterTls::open(&config.tls)?;
        let role = tls.identity().role.clone();
        if role != Role::Node(config.node_id.0) {
            return Err(StartError::WrongCertificate {
                node_id: config.node_id,
                certificate: role,
            });
        }
        let (lock, identity) = stored_identity(&config, &tls.identity()).await?;
        let connections_max = config.link_connections_max;
        let (listener, link_address) = bind_link(config.link_listen).await?;
        let (context, raft_address) = NodeContext::start(config, tls)?;
        match identity {
            Some(identity) => resume(&context, identity).await?,
            None => tracing::info!(
                node = %context.node_id(),
                "the data directory is empty: this node waits for parlance cluster init or parlance node replace"
            ),
        }
        let (stop_grpc, stop_links) = (CancellationToken::new(), CancellationToken::new());
        let stops = (stop_grpc.clone(), stop_links.clone());
        let grpc = serve_grpc(&context, (listener, connections_max), stops);
        Ok(Self {
            context,
            raft_address,
            link_address,
            grpc,
            stop_grpc,
            stop_links,
            _lock: lock,
        })
    }

    /// Its id.
    pub fn node_id(&self) -> NodeId {
        self.context.node_id()
    }

    /// Where gateways and operators reach it.
    pub fn link_address(&self) -> SocketAddr {
        self.link_address
    }

    /// Where other nodes reach it (UDP).
    pub fn raft_address(&self) -> SocketAddr {
        self.raft_address
    }

    /// Looks at the certificate files now, and not only within a second or two: what has changed is used for new
    /// connections.
    pub fn reload_certificates(&self) {
        self.context.tls().look();
    }

    /// Whether it serves: it is in a cluster, knows its map, and each of its shards has a leader.
    ///
    /// # Errors
    /// What is missing, for people.
    pub fn ready(&self) -> Result<(), String> {
        let runtime = self.context.runtime();
        let runtime = runtime.ok_or("waits to become a member of a cluster")?;
        let (view, state) = (runtime.view(), runtime.view().state());
        if state.map().is_none() {
            return Err("does not have the cluster map yet".to_owned());
        }
        let wanted = state
            .shards()
            .iter()
            .filter(|shard| !shard.pending && shard.is_on(self.node_id()))
            .count();
        let replicas = view.replicas();
        if replicas.len() < wanted + 1 {
            let started = replicas.len();
            return Err(format!("has started {started} of {} shards", wanted + 1));
        }
        let stopped = replicas.iter().filter_map(|raft| {
            let reason = raft.status().stopped?;
            Some(format!(
                "the replica of shard {} has stopped: {reason}",
                raft.id()
            ))
        });
        let faults: Vec<String> = stopped.chain(runtime.vitals().faults()).collect();
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        let leaderless = replicas
            .iter()
            .filter(|raft| raft.leadership().borrow().leader.is_none())
            .count();
        if leaderless > 0 {
            return Err(format!(
                "{leaderless} of {} shards have no leader that this node knows",
                replicas.len()
            ));
        }
        Ok(())
    }

    /// What is wrong with the cluster as this node sees it, for people; it may serve all the same.
    pub fn notes(&self) -> Vec<String> {
        let runtime = self.context.runtime();
        runtime.map_or_else(Vec::new, |runtime| notes(&runtime))
    }

    /// Resolves with the reason when the node cannot go on and the process should end.
    pub async fn failed(&self) -> String {
        let mut failed = self.context.failed();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops in order: leaderships to others, links, shards, disk.
    pub async fn shutdown(self) {
        self.context.stop().await;
        self.stop_links.cancel();
        self.stop_grpc.cancel();
        let stopped = tokio::time::timeout(GRPC_STOP_TIMEOUT, self.grpc).await;
        if stopped.is_err() {
            tracing::debug!("grpc connections were cut off");
        }
        self.context.close().await;
    }
}

async fn bind_link(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = listen_error("link_listen", address);
    let listener = TcpListener::bind(address).await.map_err(&failed)?;
    let bound = listener.local_addr().map_err(&failed)?;
    Ok((listener, bound))
}

fn link_service(context: &NodeContext, stop: CancellationToken) -> LinkService {
    let api = Api {
        shards: context.shards().clone(),
        leaders: context.leaders().clone(),
    };
    let (meta, leaders) = (context.meta(), context.leaders().clone());
    let (states, end) = (context.meta(), stop.clone());
    LinkService {
        node_id: context.node_id(),
        links: context.links().clone(),
        cluster_id: Arc::new(move || {
            let state = meta.borrow();
            state
                .map()
                .map(|map| map.cluster_id.clone())
                .unwrap_or_default()
        }),
        dispatch: Arc::new(move |link, request| api.dispatch(link, request)),
        watch: Arc::new(move |with_secrets| {
            let stop = end.clone();
            Box::pin(watch_cluster(states.clone(), &leaders, with_secrets, stop))
        }),
        refusals: Arc::new(Seldom::new("links that are refused")),
        stop,
    }
}

fn serve_grpc(
    context: &Arc<NodeContext>,
    (listener, connections_max): (TcpListener, usize),
    (stop, stop_links): (CancellationToken, CancellationToken),
) -> tokio::task::JoinHandle<()> {
    let budget = context.links().clone().keep_within_budget();
    tokio::spawn(stop_links.clone().run_until_cancelled_owned(budget));
    let link = link_service(context, stop_links);
    let admin = AdminService {
        context: context.clone(),
    };
    let server = Server::builder()
        .initial_stream_window_size(LINK_WINDOW_BYTES)
        .initial_connection_window_size(LINK_WINDOW_BYTES * 2)
        .http2_keepalive_interval(Some(LINK_KEEPALIVE))
        .http2_keepalive_timeout(Some(LINK_KEEPALIVE))
        .add_service(
            LinkServer::new(link)
                .max_decoding_message_size(LINK_FRAME_BYTES_MAX)
                .max_encoding_message_size(LINK_FRAME_BYTES_MAX),
        )
        .add_service(AdminServer::new(admin));
    let (tls, connections) = (context.tls().clone(), context.connections().clone());
    let incoming = incoming(listener, tls, connections, connections_max);
    tokio::spawn(async move {
        let served = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the grpc server ended");
        }
    })
}
