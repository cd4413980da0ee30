//! What can happen to a cluster. Each fault is started under load, does its worst, and leaves the cluster so that it
//! can heal by itself; what it may not do to the promises is for the checker.

mod connections;
mod damage;
mod disks;
mod freeze;
mod kill;
mod network;
mod replace;
mod restart;
mod retries;
mod split;

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;
use rand::rngs::StdRng;

use crate::cluster::Cluster;
use crate::history::History;
use crate::load::Load;
use crate::logs::Allowed;

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
    /// The node that leads most is cut off from the others, then only hears nobody.
    Partition,
    /// Packets between nodes are lost and late.
    BadNetwork,
    /// A node loses its disk, and an empty one takes its place.
    ReplaceNode,
    /// Every message twice through two gateways, across a leader's death; known ids with other payloads.
    Retries,
    /// Shards are split: with all well, as their leader dies, as it is frozen, and past a replica that is away so long
    /// that it needs snapshots.
    Split,
    /// All nodes and then all gateways, one after the other, restarted as an upgrade does.
    RollingRestart,
    /// A flipped bit in the middle of a stopped node's Raft log.
    CorruptLog,
    /// A cut-off file of a stopped node's state.
    TruncateState,
    /// A cut-off identity file of a stopped node.
    TruncateMetadata,
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
}

impl Fault {
    /// It needs the relays between the nodes.
    pub fn needs_relays(self) -> bool {
        matches!(self, Fault::Partition | Fault::BadNetwork)
    }

    /// It needs disks that can be made to fail.
    pub fn needs_disks(self) -> bool {
        matches!(self, Fault::PowerCut | Fault::DiskFull | Fault::SlowDisk)
    }

    /// Does it once.
    pub async fn run(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            Fault::None => Ok(()),
            Fault::KillNode => kill::each_node(stage).await,
            Fault::KillAll => kill::all_nodes(stage).await,
            Fault::PowerCut => disks::power_cut(stage).await,
            Fault::DiskFull => disks::full(stage).await,
            Fault::SlowDisk => disks::slow(stage).await,
            Fault::KillGateway => kill::each_gateway(stage).await,
            Fault::DropConnections => connections::drop_some(stage).await,
            Fault::FreezeLeader => freeze::leader(stage).await,
            Fault::Partition => network::partition(stage).await,
            Fault::BadNetwork => network::disturbed(stage).await,
            Fault::ReplaceNode => replace::wiped_node(stage).await,
            Fault::Retries => retries::run(stage).await,
            Fault::Split => split::shards(stage).await,
            Fault::RollingRestart => restart::rolling(stage).await,
            Fault::CorruptLog => damage::raft_log(stage).await,
            Fault::TruncateState => damage::state(stage).await,
            Fault::TruncateMetadata => damage::identity(stage).await,
        }
    }
}
