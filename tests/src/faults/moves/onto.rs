//! What moves do to a gateway, a shard or a node as they begin.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use parlance_proto::admin::v1::ShardStatus;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::super::Stage;
use super::super::crash::{ALWAYS, INSTALLS, SPLITS, VOTERS};
use super::Move;
use super::armed::Armed;
use super::back::Back;
use super::background::Background;
use super::begun::Undo;
use super::board::Board;
use crate::cluster::links::{Direction, Gateway, Held, Rule};
use crate::cluster::network::{Disturbance, Way};
use crate::disk::{Disk, DiskOp};

/// In a shard with so many entries the log does not reach back to the first: a new node is fed by snapshot.
const LOG_IS_CUT: u64 = 500;
const SLOW_SYNC_MS: u64 = 200;
/// What disks call what they did.
const SLOW: &str = "sync slow";
const SILENT: &str = "sync hang";
pub(super) const FULL: &str = "write full";
/// The cluster takes no new node while anything else is moving or missing.
const REPLACED_WITHIN: Duration = Duration::from_secs(90);
/// What a clock may be off, in ms.
const JUMPS_MS: [i64; 6] = [
    90_000,
    -90_000,
    26 * 3_600_000,
    -26 * 3_600_000,
    72 * 3_600_000,
    -72 * 3_600_000,
];

impl Move {
    pub(super) fn to_gateway(self, stage: &mut Stage<'_>, gateway: usize) -> Result<Undo> {
        let process = stage
            .cluster
            .gateways
            .get_mut(gateway)
            .context("no gateway")?;
        Ok(if self == Move::KillGateway {
            process.kill()?;
            Undo::Process(Back::StartGateway(gateway))
        } else {
            process.freeze()?;
            Undo::Process(Back::ThawGateway(gateway))
        })
    }

    pub(super) fn to_shard(self, stage: &mut Stage<'_>, shard: &ShardStatus) -> Result<Undo> {
        let armed = match self {
            Move::CrashInSplit => Some(Armed::one_of(stage, &SPLITS, vec![shard.leader])?),
            _ => None,
        };
        let splitting = stage.cluster.begin_split_of(shard)?;
        Ok(Undo::Split(shard.shard, splitting, armed))
    }

    /// Who ends in it is taken, so that nothing else is done to it.
    fn replace(self, stage: &mut Stage<'_>, board: &mut Board, old: u64) -> Result<Undo> {
        let armed = if self == Move::ReplaceNode {
            None
        } else if board.applied > LOG_IS_CUT && stage.rng.random_bool(0.5) {
            let new = stage.cluster.next_node_id();
            Some(Armed::one_of(stage, &INSTALLS, vec![new])?)
        } else {
            let others = board.take_other_nodes();
            Some(Armed::one_of(stage, &VOTERS, others)?)
        };
        stage.allow_replacement(old)?;
        let within = REPLACED_WITHIN + stage.patience;
        let replacing = stage.cluster.begin_to_replace(old, within)?;
        Ok(Undo::Replace(replacing, armed))
    }

    fn to_disk(self, disk: &Disk, node: u64) -> Result<Undo> {
        let what = match self {
            Move::SlowDisk => SLOW,
            Move::SilentDisk => SILENT,
            _ => FULL,
        };
        let before = disk.times(what)?;
        match self {
            Move::SlowDisk => disk.slow(DiskOp::Sync, "*", SLOW_SYNC_MS)?,
            Move::SilentDisk => disk.hang(DiskOp::Sync, "*")?,
            _ => disk.fill(0)?,
        }
        Ok(Undo::HealDisk(node, what, before))
    }

    /// All at once.
    pub(super) fn to_nodes(self, stage: &mut Stage<'_>, nodes: Vec<u64>) -> Result<Undo> {
        if self == Move::KillNodes {
            for node in &nodes {
                stage.cluster.node(*node)?.begin_to_kill()?;
            }
            for node in &nodes {
                stage.cluster.node(*node)?.kill()?;
            }
        } else {
            let seed = stage.rng.random();
            for forgotten in stage.cluster.cut_power(&nodes, seed)? {
                stage.history.note(forgotten);
            }
        }
        Ok(Undo::Process(Back::Start(nodes)))
    }

    pub(super) fn to_network(self, stage: &Stage<'_>) -> Undo {
        let network = &stage.cluster.network;
        let (does, before) = (
            if self == Move::SlowNetwork {
                SLOW_NETWORK
            } else {
                BAD
            },
            network.struck(),
        );
        network.disturb(does);
        Undo::Calm(does, before)
    }

    pub(super) fn to_node(
        self,
        stage: &mut Stage<'_>,
        board: &mut Board,
        node: u64,
    ) -> Result<Undo> {
        if matches!(self, Move::ReplaceNode | Move::CrashInReplacement) {
            return self.replace(stage, board, node);
        }
        let others: Vec<u64> = board
            .nodes
            .iter()
            .copied()
            .filter(|id| *id != node)
            .collect();
        let to = others.iter().map(|other| (*other, node));
        let from = others.iter().map(|other| (node, *other));
        let cluster = &mut *stage.cluster;
        let both = [Direction::ToNode, Direction::ToGateway];
        Ok(match self {
            Move::KillNode => {
                cluster.node(node)?.kill()?;
                Undo::Process(Back::Start(vec![node]))
            }
            Move::StopNode => {
                cluster.node(node)?.begin_to_stop()?;
                Undo::Process(Back::StartStopped(node))
            }
            Move::CrashLoop => {
                cluster.node(node)?.kill()?;
                Undo::Process(Back::KillAgain(node))
            }
            Move::FreezeAndKill => {
                cluster.node(node)?.freeze()?;
                Undo::Process(Back::KillFrozen(node))
            }
            Move::StutterNode => Undo::Stop(Background::stutter(stage, node)?),
            Move::Crash => Undo::Crash(Armed::one_of(stage, &ALWAYS, vec![node])?),
            Move::FreezeNode => {
                cluster.node(node)?.freeze()?;
                Undo::Process(Back::Thaw(node))
            }
            Move::CutNode => cut(stage, to.chain(from).collect()),
            Move::CutToNode => cut(stage, to.collect()),
            Move::CutFromNode => cut(stage, from.collect()),
            Move::JamNode => jam(stage, to.chain(from).collect()),
            Move::CutLinks => hold(stage, node, &both, Held::Cut),
            Move::CutLinksToNode => hold(stage, node, &both[..1], Held::Cut),
            Move::CutLinksToGateway => hold(stage, node, &both[1..], Held::Cut),
            Move::FreezeLinks => hold(stage, node, &both, Held::Frozen),
            Move::SlowLinks => hold(stage, node, &both, Held::Slow),
            Move::DamageLinks => hold(stage, node, &both, Held::Damaged),
            Move::ClockJump => {
                let name = cluster.node(node)?.name.clone();
                jump(stage, vec![name])?
            }
            Move::PowerCut => self.to_nodes(stage, vec![node])?,
            Move::SlowDisk | Move::SilentDisk | Move::FullDisk => {
                self.to_disk(cluster.disk(node)?, node)?
            }
            Move::ClockStrobe => Undo::Stop(Background::strobe(stage, node)?),
            _ => bail!("{self} is not done to a node"),
        })
    }
}

/// What a bad network does to packets.
const BAD: Disturbance = Disturbance {
    lost_percent: 10,
    doubled_percent: 10,
    damaged_percent: 2,
    replayed_percent: 10,
    delay_min: Duration::from_millis(1),
    delay_max: Duration::from_millis(30),
};
const SLOW_NETWORK: Disturbance = Disturbance {
    lost_percent: 0,
    doubled_percent: 0,
    damaged_percent: 0,
    replayed_percent: 0,
    delay_min: Duration::from_millis(25),
    delay_max: Duration::from_millis(125),
};

/// Of all nodes, as one.
pub(super) fn clocks_jump(stage: &mut Stage<'_>) -> Result<Undo> {
    let nodes = stage.cluster.nodes.values();
    let names = nodes.map(|node| node.name.clone()).collect();
    jump(stage, names)
}

fn jump(stage: &mut Stage<'_>, names: Vec<String>) -> Result<Undo> {
    let offset = JUMPS_MS.choose(stage.rng).copied().unwrap_or_default();
    let clocks = stage.cluster.clocks.as_ref().context("no clocks")?;
    for name in &names {
        clocks.hand(name)?.set(offset)?;
        stage
            .strikes
            .add(format!("clock of {name} by {} s", offset / 1000), 1);
    }
    Ok(Undo::TrueClocks(names))
}

pub(super) fn cut(stage: &Stage<'_>, ways: Vec<Way>) -> Undo {
    let network = &stage.cluster.network;
    let before = network.stopped(&ways);
    for (from, to) in &ways {
        network.cut(*from, *to);
    }
    Undo::Mend(ways, before)
}

fn jam(stage: &Stage<'_>, ways: Vec<Way>) -> Undo {
    let network = &stage.cluster.network;
    let before = network.stopped(&ways);
    for (from, to) in &ways {
        network.jam(*from, *to);
    }
    Undo::Release(ways, before)
}

/// For one gateway, or for all.
fn hold(stage: &mut Stage<'_>, node: u64, directions: &[Direction], held: Held) -> Undo {
    let gateways = stage.cluster.gateways.iter();
    let mut gateways: Vec<Gateway> = gateways
        .filter_map(|gateway| gateway.pid().map(Some))
        .collect();
    gateways.push(None);
    let gateway = gateways.choose(stage.rng).copied().flatten();
    let rules = directions
        .iter()
        .map(|direction| (node, gateway, *direction));
    let rules: Vec<Rule> = rules.collect();
    let links = &stage.cluster.links;
    let before = links.struck(&rules);
    for (node, gateway, direction) in &rules {
        links.hold(*node, *gateway, *direction, held);
    }
    Undo::Open(rules, before)
}
