//! What runs on a node once it is in a cluster, wired together.

use std::sync::Arc;

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::store::v1::{ClusterMap, Identity};
use parlance_tls::ClusterTls;
use tokio::sync::{Notify, watch};
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use super::agreed_clock::AgreedClock;
use super::announce::Announcer;
use super::assignment::Assignment;
use super::disk_watch::DiskWatch;
use super::error::StartError;
use super::gauges::{GaugeParts, Gauges};
use super::handover::Handover;
use super::heard::HeardNodes;
use super::leadership::Leadership;
use super::levels::levels;
use super::link_watch::LinkWatch;
use super::meta_client::MetaClient;
use super::placement::Placement;
use super::replica::ReplicaStarter;
use super::split::Splitter;
use super::steadiness::Steadiness;
use super::sweep;
use super::tasks::Tasks;
use super::tend::Tend;
use super::view::ClusterView;
use super::vitals::Vitals;
use crate::clock::Environment;
use crate::config::Config;
use crate::deliver::{RelayReceiver, RelaySender};
use crate::link::Links;
use crate::meta::{Leaders, MetaMachine, MetaState};
use crate::raft::{PeerLink, RaftHost};
use crate::shard::Shards;
use crate::store::{StateStore, StoreError, Table, decode, key};
use crate::totals::Totals;

/// How long a planned stop waits for others to take over.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a runtime is made of.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) identity: Identity,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) host: RaftHost,
    pub(super) peers: Arc<dyn PeerLink>,
    pub(super) tls: Arc<ClusterTls>,
    pub(super) environment: Arc<dyn Environment>,
    /// Where the meta shard shows its state.
    pub(super) meta: watch::Sender<Arc<MetaState>>,
    pub(super) links: Links,
    pub(super) shards: Shards,
    pub(super) leaders: Leaders,
    pub(super) heard: HeardNodes,
    pub(super) relays: Arc<RelayReceiver>,
    /// Lets no more messages of other nodes through to Raft.
    pub(super) leave: Box<dyn Fn() + Send + Sync>,
    /// What must end the process.
    pub(super) failed: watch::Sender<Option<String>>,
}

/// What runs on a node once it is in a cluster.
pub struct Runtime {
    identity: Identity,
    view: ClusterView,
    store: Arc<dyn StateStore>,
    host: RaftHost,
    links: Links,
    environment: Arc<dyn Environment>,
    meta_client: MetaClient,
    splitter: Arc<Splitter>,
    steadiness: Steadiness,
    handover: Handover,
    vitals: Vitals,
    leaving: CancellationToken,
    leave: Box<dyn Fn() + Send + Sync>,
    tasks: Tasks,
}

impl Runtime {
    /// Starts the meta shard and, as the cluster map says, the other shards.
    pub(super) async fn start(parts: Parts) -> Result<Arc<Self>, StartError> {
        let (tasks, steadiness) = (Tasks::default(), Steadiness::default());
        let machine = MetaMachine::open(parts.store.clone(), levels(), parts.meta.clone())?;
        check_level(&parts.meta.borrow())?;
        let machine = Box::new(machine);
        let meta_shard = parts.host.start_replica(ShardId::META, machine).await?;
        let view = ClusterView {
            node_id: NodeId(parts.identity.node_id),
            meta: parts.meta.subscribe(),
            meta_shard: meta_shard.clone(),
            shards: parts.shards.clone(),
            leaders: parts.leaders.clone(),
            clock: AgreedClock::new(&parts),
            heard: parts.heard.clone(),
        };
        let meta_client = MetaClient {
            node_id: view.node_id,
            meta_shard: meta_shard.clone(),
            leaders: parts.leaders.clone(),
            peers: parts.peers.clone(),
            environment: parts.environment.clone(),
        };
        let splitter = Arc::new(Splitter {
            view: view.clone(),
            meta_client: meta_client.clone(),
            peers: parts.peers.clone(),
        });
        let handover = Handover::new(&view, &steadiness);
        let runtime = Arc::new(Self {
            identity: parts.identity.clone(),
            view,
            store: parts.store.clone(),
            host: parts.host.clone(),
            links: parts.links.clone(),
            environment: parts.environment.clone(),
            meta_client,
            splitter,
            steadiness,
            handover,
            vitals: Vitals::default(),
            leaving: CancellationToken::new(),
            leave: parts.leave,
            tasks,
        });
        let leadership = Leadership {
            leaders: parts.leaders.clone(),
            steadiness: runtime.steadiness.clone(),
            tasks: runtime.tasks.clone(),
        };
        leadership.follow(meta_shard);
        let relays = Arc::new(RelaySender::new(
            runtime.view.node_id,
            runtime.view.meta.clone(),
            parts.leaders,
            parts.peers.clone(),
            parts.relays,
        ));
        let starter = ReplicaStarter {
            view: runtime.view.clone(),
            config: parts.config,
            store: parts.store,
            host: parts.host,
            relays,
            leadership,
            totals: Totals::default(),
            range_changed: Arc::new(Notify::new()),
        };
        runtime.spawn_tasks(starter, (parts.peers, parts.tls), parts.failed);
        Ok(runtime)
    }

    fn spawn_tasks(
        &self,
        starter: ReplicaStarter,
        (peers, tls): (Arc<dyn PeerLink>, Arc<ClusterTls>),
        failed: watch::Sender<Option<String>>,
    ) {
        let (view, tasks) = (&self.view, &self.tasks);
        let announcer = Announcer {
            view: view.clone(),
            peers,
            tls,
            steadiness: self.steadiness.clone(),
            leaving: self.leaving.clone(),
            vitals: self.vitals.clone(),
            tasks: tasks.clone(),
        };
        let gauges = Gauges::new(GaugeParts {
            view: view.clone(),
            environment: self.environment.clone(),
            store: self.store.clone(),
            host: self.host.clone(),
            links: self.links.clone(),
            data_dir: starter.config.data_dir.clone(),
            vitals: self.vitals.clone(),
        });
        let tend = Tend {
            view: view.clone(),
            store: self.store.clone(),
            splitter: self.splitter.clone(),
        };
        let disk = DiskWatch::new(&self.handover, &self.host, &starter.config);
        let links = LinkWatch::new(view, &self.links, &self.handover);
        let placement = Placement::new(view, &self.handover);
        tasks.spawn(Assignment::new(starter, failed).run(tasks.clone()));
        tasks.spawn(announcer.run());
        tasks.spawn(disk.run(tasks.clone()));
        tasks.spawn(links.run(tasks.clone()));
        tasks.spawn(placement.run(tasks.clone()));
        tasks.spawn(tend.run(tasks.clone()));
        tasks.spawn(gauges.run(tasks.clone()));
        tasks.spawn(sweep::run(view.clone(), tasks.clone()));
    }

    /// Whose data directory it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The cluster map that came with this node's invitation.
    pub fn invitation(&self) -> Result<ClusterMap, StoreError> {
        let row = self.store.get(Table::Meta, &key::invitation())?;
        row.map_or_else(
            || Ok(ClusterMap::default()),
            |row| decode("invitation", &row),
        )
    }

    /// What this node knows of its cluster.
    pub fn view(&self) -> &ClusterView {
        &self.view
    }

    /// Proposes to the meta shard.
    pub fn meta_client(&self) -> &MetaClient {
        &self.meta_client
    }

    /// What this node has found out about itself.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Splits shards.
    pub fn splitter(&self) -> &Splitter {
        &self.splitter
    }

    /// Clock and randomness.
    pub fn environment(&self) -> &Arc<dyn Environment> {
        &self.environment
    }

    /// Hands every leadership of this node to another voter. Answers how many are left when the time is up.
    pub async fn hand_over(&self, within: Duration) -> usize {
        self.handover.all(within).await
    }

    /// Stops: leaderships first, then links, tasks and replicas; everything applied is on disk on return.
    pub(super) async fn shutdown(&self) {
        self.leaving.cancel();
        let left = self.hand_over(HANDOVER_TIMEOUT).await;
        if left > 0 && self.view.state().members().count() > 1 {
            tracing::info!(left, "stopping with leaderships that nobody took over");
        }
        self.links.close_all();
        self.tasks.stop().await;
        self.view.shards.clear();
        (self.leave)(); // other nodes' messages stop before the replicas do
        self.host.shutdown().await;
        let store = self.store.clone();
        let flushed = tokio::task::spawn_blocking(move || store.flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::error!(%error, "the state store could not be flushed: it will be replayed from the log");
        }
    }
}

/// A program that cannot speak the cluster's level must not run in it.
fn check_level(state: &MetaState) -> Result<(), StartError> {
    let levels = levels();
    match state.map() {
        Some(map) if !levels.contains(&map.feature_level) => Err(StartError::FeatureLevel {
            level: map.feature_level,
            min: *levels.start(),
            max: *levels.end(),
        }),
        _ => Ok(()),
    }
}
