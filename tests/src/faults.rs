//! What can happen to a cluster. Each fault is started under load, does its worst, and leaves the cluster so that it
//! can heal by itself; what it may not do to the promises is for the checker. Each says how often it struck, and on what: one
//! that never did has tested nothing.
//!
//! [`moves`] are the small ones that can be on together; the other files tell longer stories.

mod clock;
mod crash;
mod damage;
mod disks;
mod kill;
mod limits;
mod links;
pub mod moves;
mod nodes;
mod operators;
mod replace;
mod restart;
mod retries;
mod split;
mod strikes;
pub mod swarm;
mod turns;

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use rand::rngs::StdRng;

use crate::cluster::{Cluster, ClusterSpec, START_WITHIN, binary};
use crate::history::History;
use crate::load::Load;
use crate::logs::Allowed;
use crate::wait::until;
pub use disks::NOT_BACK;
use moves::Move;
pub use strikes::Strikes;
use swarm::Means;
pub use turns::Turns;

/// Before it is looked whether it has ended.
const READY_WITHIN: Duration = Duration::from_millis(500);

/// A fault by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Nothing at all.
    None,
    /// `kill -9` of each node in turn, each started again.
    KillNode,
    /// `kill -9` of all nodes at once.
    KillAll,
    /// The power of a node, then of all nodes fails: what was not synced is gone.
    PowerCut,
    /// The disk of a node, then of all nodes has no room left, and has again.
    DiskFull,
    /// The disk of the node that leads most takes long, then does not answer.
    SlowDisk,
    /// `kill -9` of each gateway in turn, each started again.
    KillGateway,
    /// Connections of clients break, all the time.
    DropConnections,
    /// The node that leads most is stopped for longer than an election, and goes on.
    FreezeLeader,
    /// The node that leads most is cut off, then only hears nobody, then is heard by nobody; then two nodes do not hear each
    /// other, and a third hears both.
    Partition,
    /// Packets between nodes are lost, late, doubled, damaged, replayed and out of order; then they take long; then what the node
    /// that leads most says and is told waits, and comes all at once.
    BadNetwork,
    /// Some nodes die at once; nodes fall apart into halves, and into a ring in which each hears a majority of its own. For five
    /// nodes and more.
    ManyNodes,
    /// A node is asked to stop; dies, and dies again as it starts; stands still and dies; stands still again and again.
    UnsteadyNode,
    /// Gateways are cut off from the node that leads most, in both directions and in either; what they say is held back, comes
    /// slowly, and damaged.
    BadLinks,
    /// A gateway loses its link to a leader for longer than anybody remembers, then the leader dies.
    LostLink,
    /// The clock of the node that leads most jumps and strobes.
    Clocks,
    /// A node's clock is two days ahead while messages are sent twice and the leader dies.
    ClockRetries,
    /// Midnight passes on all nodes while messages are sent twice and a leader dies.
    DayChange,
    /// Leaderships are handed over all the time.
    Transfers,
    /// Operators ask and change this and that all the time, meanwhile a shard is split and a node replaced.
    Operators,
    /// A node loses its disk, and an empty one takes its place.
    ReplaceNode,
    /// Two living nodes are replaced, the second as soon as the cluster lets it.
    ReplaceTwice,
    /// Every message twice through two gateways, across a leader's death; known ids with other payloads.
    Retries,
    /// Shards are split: with all well, as their leader dies, as it is frozen, and past a replica that is away so long
    /// that it needs snapshots.
    Split,
    /// All nodes and then all gateways, one after the other, restarted as an upgrade does.
    RollingRestart,
    /// All nodes stop and start, in every order.
    FullRestarts,
    /// A flipped bit in the middle of a stopped node's Raft log.
    CorruptLog,
    /// A cut-off file of a stopped node's state.
    TruncateState,
    /// A cut-off identity file of a stopped node.
    TruncateMetadata,
    /// A node ends at each of the places that are named in its code, and is started again. Needs a build with switches.
    CrashPoints,
    /// By the seed: a subset of the moves, again and again, two at once.
    Swarm,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("unnamed", |value| value.get_name()))
    }
}

/// What a fault works on.
pub struct Stage<'a> {
    pub cluster: &'a mut Cluster,
    pub load: &'a Load,
    pub history: &'a History,
    pub rng: &'a mut StdRng,
    pub allowed: &'a mut Allowed,
    pub strikes: &'a mut Strikes,
    pub turns: &'a mut Turns,
    /// How much longer it may take until large shards have moved.
    pub patience: Duration,
}

impl Stage<'_> {
    /// The fault has struck.
    pub fn strike(&mut self, on: impl Into<String>) {
        self.strikes.add(on, 1);
    }

    /// A living node may be replaced: it ends with an error that says why, and the Raft library says one when a leader goes
    /// in the middle of a change, or the next one begins another.
    fn allow_replacement(&mut self, old: u64) -> Result<()> {
        let name = self.cluster.node(old)?.name.clone();
        self.allowed.processes.push(name);
        for library in [
            "step error: has to forward request to",
            "step error: the cluster is already undergoing a configuration change",
        ] {
            self.allowed.texts.push(library.to_owned());
        }
        Ok(())
    }

    /// A node says as an error that its clock is wrong.
    fn allow_wrong_clocks(&mut self) {
        let says = "this node's clock is far from the other nodes'";
        self.allowed.texts.push(says.to_owned());
    }

    /// A node may still be about to end over a disk that is well again: whoever looks after it would start it.
    async fn start_whom_disks_end(&mut self) -> Result<()> {
        let may_end = &self.allowed.processes;
        let nodes = self.cluster.nodes.iter();
        let nodes = nodes.filter(|(_, process)| may_end.contains(&process.name));
        let nodes: Vec<u64> = nodes.map(|(id, _)| *id).collect();
        for node in nodes {
            let cluster = &mut *self.cluster;
            let what = format!("node {node} is ready, started again or not");
            until(&what, START_WITHIN, async || {
                if cluster.node(node)?.ended()?.is_some() {
                    cluster.node(node)?.start()?;
                }
                cluster.wait_node_ready(node, READY_WITHIN).await
            })
            .await?;
        }
        Ok(())
    }

    /// All that can be undone is; the cluster must heal.
    pub async fn heal(&mut self, within: Duration) -> Result<()> {
        self.cluster.network.heal();
        self.cluster.links.heal();
        self.start_whom_disks_end().await?;
        self.cluster.wait_nodes_ready(START_WITHIN).await?;
        self.cluster.wait_gateways_ready(START_WITHIN).await?;
        self.cluster.wait_healthy(within + self.patience).await?;
        self.load.wait_online(START_WITHIN).await
    }
}

impl Fault {
    /// Turns on what it needs of the cluster.
    pub fn prepare(self, spec: &mut ClusterSpec, seed: u64) -> Result<()> {
        match self {
            Fault::Partition | Fault::BadNetwork => spec.relays = true,
            Fault::ManyNodes => {
                if spec.nodes < MANY_NODES {
                    bail!("{self} needs {MANY_NODES} nodes");
                }
                spec.relays = true;
            }
            Fault::BadLinks | Fault::LostLink => spec.link_relays = true,
            Fault::Clocks | Fault::ClockRetries | Fault::DayChange => spec.clocks = true,
            Fault::PowerCut | Fault::DiskFull | Fault::SlowDisk => spec.disks = true,
            Fault::Swarm => {
                (spec.relays, spec.link_relays, spec.clocks) = (true, true, true);
                let moves = swarm::draw(seed, Means::here(spec)?);
                limits::draw(seed, &mut spec.node_settings);
                spec.disks |= moves.iter().any(|one| one.needs_disks());
                if spec.binary.is_none() && moves.iter().any(|one| one.needs_switches()) {
                    spec.binary = binary::with_switches();
                }
            }
            Fault::CrashPoints if spec.binary.is_none() => {
                spec.binary = binary::with_switches();
                if spec.binary.is_none() {
                    bail!("{self} needs a build with switches: PARLANCE_BROKEN_BIN");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Does it once. The swarm is a thing of the run's: see [`swarm`].
    pub async fn run(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            Fault::None | Fault::Swarm => Ok(()),
            Fault::KillNode => kill::each_node(stage).await,
            Fault::KillAll => kill::all_nodes(stage).await,
            Fault::PowerCut => disks::power_cut(stage).await,
            Fault::DiskFull => disks::full(stage).await,
            Fault::SlowDisk => disks::slow(stage).await,
            Fault::KillGateway => kill::each_gateway(stage).await,
            Fault::DropConnections => moves::each(stage, &[Move::DropConnections]).await,
            Fault::FreezeLeader => moves::each(stage, &[Move::FreezeNode; 2]).await,
            Fault::Partition => moves::each(stage, &PARTITIONS).await,
            Fault::BadNetwork => moves::each(stage, &NETWORKS).await,
            Fault::ManyNodes => moves::each(stage, &MANY).await,
            Fault::UnsteadyNode => moves::each(stage, &UNSTEADY).await,
            Fault::BadLinks => moves::each(stage, &BAD_LINKS).await,
            Fault::LostLink => links::lost_and_leader_killed(stage).await,
            Fault::Clocks => moves::each(stage, &CLOCKS).await,
            Fault::ClockRetries => clock::ahead_under_retries(stage).await,
            Fault::DayChange => clock::day_change(stage).await,
            Fault::Transfers => moves::each(stage, &[Move::Transfers]).await,
            Fault::Operators => moves::together(stage, &OPERATORS).await,
            Fault::ReplaceNode => replace::wiped_node(stage).await,
            Fault::ReplaceTwice => replace::two_living_nodes(stage).await,
            Fault::Retries => retries::run(stage).await,
            Fault::Split => split::shards(stage).await,
            Fault::RollingRestart => restart::rolling(stage).await,
            Fault::FullRestarts => restart::all_in_every_order(stage).await,
            Fault::CorruptLog => damage::raft_log(stage).await,
            Fault::TruncateState => damage::state(stage).await,
            Fault::TruncateMetadata => damage::identity(stage).await,
            Fault::CrashPoints => crash::at_each_point(stage).await,
        }
    }
}

const PARTITIONS: [Move; 4] = [
    Move::CutNode,
    Move::CutToNode,
    Move::CutFromNode,
    Move::Bridge,
];
const NETWORKS: [Move; 3] = [Move::BadNetwork, Move::SlowNetwork, Move::JamNode];
const MANY: [Move; 3] = [Move::KillNodes, Move::Halves, Move::Ring];
/// Fewer fall into no ring.
pub const MANY_NODES: u64 = 5;
const UNSTEADY: [Move; 4] = [
    Move::StopNode,
    Move::CrashLoop,
    Move::FreezeAndKill,
    Move::StutterNode,
];
const OPERATORS: [Move; 3] = [Move::Split, Move::ReplaceNode, Move::Operators];
const BAD_LINKS: [Move; 7] = [
    Move::CutLinks,
    Move::CutLinksToNode,
    Move::CutLinksToGateway,
    Move::FreezeLinks,
    Move::SlowLinks,
    Move::DamageLinks,
    Move::FreezeGateway,
];
const CLOCKS: [Move; 3] = [Move::ClockJump, Move::ClockJump, Move::ClockStrobe];
