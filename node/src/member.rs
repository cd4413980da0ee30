//! A node that is a member of a cluster: its groups, its links, and the tasks between them.
//!
//! The cluster map says which shards it has a replica of; [`Member`] starts and stops them as the map changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::{TryStreamExt, stream};
use parlance_proto::raft::v1::{ForwardRequest, ForwardResponse, peer_message::Body};
use parlance_proto::shard::{META_GROUP, shard_group};
use parlance_proto::store::v1::{
    ClusterMap, Identity, MapShard, MetaCommand, MetaOutcome, NodeState,
};
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Duration, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apply::{Outcome, ShardMachine, decode, dedup::Dedup, shard_state};
use crate::clock::Environment;
use crate::config::Config;
use crate::deliver::{Home, OutboxFeed, Relayer, Topics, relay_while_leading};
use crate::error::StartError;
use crate::link::Links;
use crate::meta::{Lead, Leaders, MetaMachine, MetaState, MetaWatch};
use crate::metrics;
use crate::placement::place;
use crate::raft::{Lane, NodeId, PeerLink, ProposeError, RaftGroup, RaftHost};
use crate::shard::{Proposer, Shard, Shards};
use crate::store::{StateStore, StoreError, Table, key};

/// Nodes tell each other what they lead at every change and this often.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// Shards that are started at the same time.
const SHARDS_STARTING_MAX: usize = 8;
/// How long a planned stop waits for others to take over.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// Between looks at what is left to hand over.
const HANDOVER_ROUND: Duration = Duration::from_millis(50);
/// So many looks without anybody to hand over to, and nobody is waited for: all others are gone or about to stop.
const HANDOVER_ROUNDS_ALONE_MAX: u32 = 6;
/// How long a command for the meta group may look for its leader.
const META_TIMEOUT: Duration = Duration::from_secs(10);
/// Between tries to reach the meta group's leader.
const META_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What a member is made of.
pub struct Parts {
    /// The settings.
    pub config: Config,
    /// Who the data directory belongs to.
    pub identity: Identity,
    /// The rows of all groups.
    pub store: Arc<dyn StateStore>,
    /// The Raft groups.
    pub host: RaftHost,
    /// The way to other nodes.
    pub peers: Arc<dyn PeerLink>,
    /// Clock and randomness.
    pub environment: Arc<dyn Environment>,
    /// Where the meta group shows its state.
    pub meta: watch::Sender<Arc<MetaState>>,
    /// The node's link sessions.
    pub links: Links,
    /// The node's shards.
    pub shards: Shards,
    /// Who leads what.
    pub leaders: Leaders,
    /// Lets no more messages of other nodes through to Raft.
    pub leave: Box<dyn Fn() + Send + Sync>,
    /// What must end the process.
    pub failed: watch::Sender<Option<String>>,
}

/// A running member.
pub struct Member {
    parts: Parts,
    meta: MetaWatch,
    meta_group: RaftGroup,
    home: Arc<Home>,
    relayer: Arc<Relayer>,
    leaving: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Member {
    /// Starts the meta group and, as the cluster map says, the shards.
    pub async fn start(parts: Parts) -> Result<Arc<Self>, StartError> {
        let machine = MetaMachine::open(parts.store.clone(), parts.meta.clone())?;
        let meta_group = parts
            .host
            .start_group(META_GROUP, Box::new(machine))
            .await?;
        let meta = parts.meta.subscribe();
        let home = Arc::new(Home::new(
            parts.shards.clone(),
            parts.links.clone(),
            parts.leaders.clone(),
        ));
        let relayer = Arc::new(Relayer::new(
            parts.identity.node_id,
            meta.clone(),
            parts.leaders.clone(),
            parts.peers.clone(),
            home.clone(),
        ));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let member = Arc::new(Self {
            parts,
            meta,
            meta_group,
            home,
            relayer,
            leaving: CancellationToken::new(),
            stop,
            tasks,
        });
        member.follow_leadership(member.meta_group.clone());
        member.spawn(member.clone().follow_map());
        member.spawn(member.clone().announce());
        member.spawn(place(member.clone(), member.stop.clone()));
        Ok(member)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.parts.identity.node_id
    }

    /// Whose member it is.
    pub fn identity(&self) -> &Identity {
        &self.parts.identity
    }

    /// The cluster map that came with this node's invitation.
    pub fn invitation(&self) -> Result<ClusterMap, StoreError> {
        let row = self.parts.store.get(Table::Meta, &key::invitation())?;
        row.map_or_else(
            || Ok(ClusterMap::default()),
            |row| decode("invitation", &row),
        )
    }

    /// The cluster map and the apps.
    pub fn meta(&self) -> &MetaWatch {
        &self.meta
    }

    /// The meta group.
    pub fn meta_group(&self) -> &RaftGroup {
        &self.meta_group
    }

    /// Who leads what.
    pub fn leaders(&self) -> &Leaders {
        &self.parts.leaders
    }

    /// The shards with a replica here.
    pub fn shards(&self) -> &Shards {
        &self.parts.shards
    }

    /// Takes relays for users at home here.
    pub fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// Clock and randomness.
    pub fn environment(&self) -> &Arc<dyn Environment> {
        &self.parts.environment
    }

    /// All groups with a replica here.
    pub fn groups(&self) -> Vec<RaftGroup> {
        let shards = self.shards().all();
        [self.meta_group.clone()]
            .into_iter()
            .chain(shards.iter().map(|shard| shard.raft().clone()))
            .collect()
    }

    async fn follow_map(self: Arc<Self>) {
        let mut meta = self.meta.clone();
        meta.mark_changed();
        while matches!(
            self.stop.run_until_cancelled(meta.changed()).await,
            Some(Ok(()))
        ) {
            let state = meta.borrow_and_update().clone();
            if let Err(error) = self.follow(&state).await {
                self.fail(format!("a shard could not be started: {error}"));
            }
        }
    }

    async fn follow(self: &Arc<Self>, state: &MetaState) -> Result<(), StartError> {
        let node_id = self.node_id();
        if state
            .node(node_id)
            .is_some_and(|node| node.state() == NodeState::Removed)
        {
            self.fail(format!(
                "node {node_id} was replaced and is no longer a member: remove its data directory"
            ));
            return Ok(());
        }
        let mut missing = Vec::new();
        for shard in state.map.iter().flat_map(|map| &map.shards) {
            let wanted = shard.replicas.contains(&node_id);
            match self.shards().get(shard.shard) {
                None if wanted => missing.push(Ok(shard)),
                Some(leaving) if !wanted => {
                    self.shards().remove(shard.shard);
                    leaving.raft().shutdown().await;
                }
                _ => {}
            }
        }
        // Each replays its log first.
        stream::iter(missing)
            .try_for_each_concurrent(SHARDS_STARTING_MAX, |shard: &MapShard| {
                self.start_shard(shard.shard, shard.founder, &shard.replicas)
            })
            .await
    }

    async fn start_shard(
        self: &Arc<Self>,
        number: u32,
        founder: NodeId,
        replicas: &[NodeId],
    ) -> Result<(), StartError> {
        let group = shard_group(number);
        let store = &self.parts.store;
        let feed = Arc::new(OutboxFeed::default());
        let machine = ShardMachine::open(group, store.clone(), feed.sink(), dedup())?;
        let raft = self
            .parts
            .host
            .start_group(group, Box::new(machine))
            .await?;
        if founder == self.node_id() {
            raft.initialize(replicas.iter().copied().collect()).await?;
        }
        let relayed = Arc::new(AtomicU64::new(shard_state(&**store, group)?.relayed));
        let environment = self.parts.environment.clone();
        let proposer = Proposer::start(
            raft.clone(),
            self.parts.config.proposer,
            relayed.clone(),
            environment,
        );
        let shard = Shard::new(
            number,
            raft.clone(),
            proposer,
            Arc::new(Topics::default()),
            feed,
            store.clone(),
        );
        let shard = Arc::new(shard);
        self.shards().insert(shard.clone());
        self.follow_leadership(raft);
        self.spawn(relay_while_leading(
            shard,
            self.relayer.clone(),
            relayed,
            self.stop.clone(),
        ));
        Ok(())
    }

    /// Keeps the table of leaders, and the metrics, up to date with one group.
    fn follow_leadership(self: &Arc<Self>, raft: RaftGroup) {
        let member = self.clone();
        self.spawn(async move {
            let mut leadership = raft.leadership();
            leadership.mark_changed();
            while matches!(
                member.stop.run_until_cancelled(leadership.changed()).await,
                Some(Ok(()))
            ) {
                let now = *leadership.borrow_and_update();
                member.leaders().learn(
                    raft.id(),
                    Lead {
                        term: now.term,
                        node: now.leader,
                    },
                );
            }
        });
    }

    /// Tells all members what this node leads, at every change and every second, and when it is about to stop.
    async fn announce(self: Arc<Self>) {
        let mut leaders = self.leaders().watch();
        let mut ticks = interval(ANNOUNCE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving = false;
        loop {
            let woken = async {
                tokio::select! {
                    () = self.leaving.cancelled(), if !leaving => {}
                    _ = ticks.tick() => self.report_shards(),
                    _ = leaders.changed() => sleep(Duration::from_millis(5)).await, // a few come together
                }
            };
            if self.stop.run_until_cancelled(woken).await.is_none() {
                return;
            }
            leaders.mark_unchanged();
            leaving = self.leaving.is_cancelled();
            let announcement = self.leaders().announcement(self.node_id(), leaving);
            let members: Vec<NodeId> = self
                .meta
                .borrow()
                .members()
                .map(|node| node.node_id)
                .collect();
            for to in members.into_iter().filter(|id| *id != self.node_id()) {
                self.parts.peers.post(
                    to,
                    Lane::Control,
                    META_GROUP,
                    Body::Leaders(announcement.clone()),
                );
            }
        }
    }

    fn report_shards(&self) {
        let node = self.node_id().to_string();
        for shard in self.shards().all() {
            let status = shard.raft().status();
            let leading = shard.is_led_here();
            metrics::shard(
                &node,
                &shard.number().to_string(),
                leading,
                status.term,
                status.applied,
            );
        }
    }

    /// Proposes a command to the meta group, here or at its leader, and waits for the outcome.
    pub async fn propose_meta(&self, command: MetaCommand) -> Result<MetaOutcome, ProposeError> {
        let payload: bytes::Bytes = command.encode_to_vec().into();
        let asking = AtomicBool::new(false);
        let tries = async {
            loop {
                asking.store(true, Ordering::Relaxed);
                let tried = self.try_propose_meta(payload.clone()).await;
                asking.store(false, Ordering::Relaxed);
                match tried {
                    Err(ProposeError::NotLeader { .. }) => sleep(META_RETRY_DELAY).await,
                    done => return done,
                }
            }
        };
        let (outcome, index) = match timeout(META_TIMEOUT, tries).await {
            Ok(tried) => tried?,
            Err(_) if asking.load(Ordering::Relaxed) => return Err(ProposeError::OutcomeUnknown),
            Err(_) => return Err(ProposeError::NotLeader { leader: None }),
        };
        // Whoever asks this node next sees what it has just done. If that takes too long, it is done all the same.
        self.meta_group.has_applied(index, META_TIMEOUT).await;
        Ok(outcome)
    }

    /// The outcome, and the index of the entry.
    async fn try_propose_meta(
        &self,
        command: bytes::Bytes,
    ) -> Result<(MetaOutcome, u64), ProposeError> {
        match self.leaders().of(META_GROUP) {
            None => Err(ProposeError::NotLeader { leader: None }),
            Some(leader) if leader == self.node_id() => self.propose_meta_here(command).await,
            Some(leader) => {
                let request = Body::Forward(ForwardRequest { command });
                let answer = self
                    .parts
                    .peers
                    .call(leader, Lane::Control, META_GROUP, request, META_TIMEOUT)
                    .await;
                match answer {
                    Ok(Body::ForwardResponse(response)) if !response.not_leader => {
                        let outcome = MetaOutcome::decode(response.outcome);
                        let outcome = outcome.map_err(|_| ProposeError::OutcomeUnknown)?;
                        Ok((outcome, response.index))
                    }
                    Ok(_) => Err(ProposeError::NotLeader { leader: None }),
                    Err(_) => Err(ProposeError::OutcomeUnknown),
                }
            }
        }
    }

    /// The outcome, and the index of the entry.
    async fn propose_meta_here(
        &self,
        command: bytes::Bytes,
    ) -> Result<(MetaOutcome, u64), ProposeError> {
        let applied = self.meta_group.propose(command).await?;
        match applied.outcome {
            Outcome::Meta(outcome) => Ok((outcome, applied.index)),
            _ => Err(ProposeError::OutcomeUnknown),
        }
    }

    /// A command that another node forwarded because it takes this one for the meta group's leader.
    pub async fn forwarded(&self, request: ForwardRequest) -> Option<ForwardResponse> {
        match self.propose_meta_here(request.command).await {
            Ok((outcome, index)) => Some(ForwardResponse {
                outcome: outcome.encode_to_vec().into(),
                index,
                ..ForwardResponse::default()
            }),
            Err(ProposeError::NotLeader { leader }) => Some(ForwardResponse {
                not_leader: true,
                leader_node_id: leader.unwrap_or(0),
                ..ForwardResponse::default()
            }),
            Err(_) => None, // the caller learns that the outcome is unknown
        }
    }

    /// Hands every leadership of this node to another voter. Answers how many are left when the time is up.
    pub async fn hand_over(&self, within: Duration) -> usize {
        let led = || {
            self.groups()
                .into_iter()
                .filter(|raft| raft.leadership().borrow().leading)
                .collect::<Vec<_>>()
        };
        let handover = async {
            let mut rounds_without_heirs = 0;
            while rounds_without_heirs < HANDOVER_ROUNDS_ALONE_MAX {
                let groups = led();
                if groups.is_empty() {
                    return;
                }
                rounds_without_heirs += 1;
                for raft in groups {
                    let status = raft.status();
                    let heard = |node: &&NodeId| {
                        **node != self.node_id() && self.leaders().is_heard(**node)
                    };
                    let heir = status
                        .voters
                        .iter()
                        .filter(heard)
                        .max_by_key(|id| status.matched.get(id).copied());
                    if let Some(heir) = heir {
                        raft.transfer_leader(*heir).await;
                        rounds_without_heirs = 0;
                    }
                }
                sleep(HANDOVER_ROUND).await;
            }
        };
        let _ = timeout(within, handover).await;
        led().len()
    }

    /// Stops: leaderships first, then links, tasks and groups; everything applied is on disk on return.
    pub async fn shutdown(&self) {
        self.leaving.cancel();
        let left = self.hand_over(HANDOVER_TIMEOUT).await;
        if left > 0 && self.meta.borrow().members().count() > 1 {
            tracing::info!(left, "stopping with leaderships that nobody took over");
        }
        self.parts.links.close_all();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.shards().clear();
        (self.parts.leave)(); // other nodes' messages stop before the groups do
        self.parts.host.shutdown().await;
        let store = self.parts.store.clone();
        let flushed = tokio::task::spawn_blocking(move || store.flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::error!(%error, "the state store could not be flushed: it will be replayed from the log");
        }
    }

    fn fail(&self, reason: String) {
        self.parts.failed.send_replace(Some(reason));
    }

    /// A replica's rows, hashed in key order, with the index that they are at; the same on every replica.
    pub fn digest(&self, shard: &Shard) -> Result<crate::digest::Digest, StoreError> {
        crate::digest::digest(&*self.parts.store, shard.group())
    }
}

#[cfg(not(feature = "unsafe-test-switches"))]
fn dedup() -> Dedup {
    Dedup::On
}

#[cfg(feature = "unsafe-test-switches")]
fn dedup() -> Dedup {
    let off = std::env::var_os("PARLANCE_TEST_UNSAFE_NO_DEDUP").is_some_and(|value| value == "1");
    if off { Dedup::Off } else { Dedup::On }
}
