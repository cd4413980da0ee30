//! Small faults with a beginning and an end, so that two can be on at once.

mod background;
mod board;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::time::sleep;

use super::Stage;
use crate::cluster::links::{Direction, Gateway, Held};
use crate::cluster::network::{Disturbance, Struck};
use crate::disk::DiskOp;
use background::Background;
pub use board::Board;

/// Longer than an election, with the connections' own time-outs.
const LENGTH_MS: std::ops::Range<u64> = 3000..6000;
const SLOW_SYNC_MS: u64 = 200;
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// What a clock may be off, in ms.
const JUMPS_MS: [i64; 6] = [
    90_000,
    -90_000,
    26 * 3_600_000,
    -26 * 3_600_000,
    72 * 3_600_000,
    -72 * 3_600_000,
];

/// A move by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Move {
    /// `kill -9` of a node; started again at the end.
    KillNode,
    /// A node is stopped; at the end it goes on.
    FreezeNode,
    /// Nodes do not hear one of them, and it does not hear them.
    CutNode,
    /// It is heard, and hears nobody.
    CutToNode,
    /// It hears, and nobody hears it.
    CutFromNode,
    /// Two nodes do not hear each other; all others hear both.
    Bridge,
    /// Packets between nodes are lost, late, doubled and out of order.
    BadNetwork,
    /// `kill -9` of a gateway; started again at the end.
    KillGateway,
    /// A gateway is stopped; at the end it goes on.
    FreezeGateway,
    /// A gateway and a node do not hear each other.
    CutLinks,
    CutLinksToNode,
    CutLinksToGateway,
    /// What they say to each other comes late, all at once.
    FreezeLinks,
    /// Connections of clients break, again and again.
    DropConnections,
    /// A node's clock is minutes or days off.
    ClockJump,
    /// A node's clock goes to and fro.
    ClockStrobe,
    /// Leaderships are handed over all the time.
    Transfers,
    /// Operators ask and change this and that.
    Operators,
    /// A node's power fails: its disk forgets what was not synced. Started again at the end.
    PowerCut,
    /// A node's disk takes long over each sync.
    SlowDisk,
    /// A node's disk does not end a sync.
    SilentDisk,
    /// A node's disk has no room left.
    FullDisk,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("unnamed", |value| value.get_name()))
    }
}

/// A move that is on.
pub struct Begun {
    what: Move,
    undo: Undo,
}

enum Undo {
    StartNode(u64),
    ThawNode(u64),
    StartGateway(usize),
    ThawGateway(usize),
    Mend(Vec<(u64, u64)>, Struck),
    Calm(Struck),
    Open(Vec<(u64, Gateway, Direction)>, u64),
    TrueClock(String),
    HealDisk(u64),
    Stop(Background),
}

/// One after the other, each on the node that leads most, with time to heal.
pub(super) async fn each(stage: &mut Stage<'_>, moves: &[Move]) -> Result<()> {
    for what in moves {
        let mut board = Board::look(stage).await?;
        let begun = what.begin(stage, &mut board)?;
        let begun = begun.with_context(|| format!("nothing to do {what} to"))?;
        sleep(Duration::from_millis(stage.rng.random_range(LENGTH_MS))).await;
        if !begun.end(stage)? {
            bail!("{what} never struck");
        }
        stage.heal(HEALED_WITHIN).await?;
    }
    Ok(())
}

impl Move {
    /// It needs a disk that can be made to fail.
    pub fn needs_disks(self) -> bool {
        matches!(
            self,
            Move::PowerCut | Move::SlowDisk | Move::SilentDisk | Move::FullDisk
        )
    }

    /// Begins it, on something that no other move is on; none if there is nothing.
    pub fn begin(self, stage: &mut Stage<'_>, board: &mut Board) -> Result<Option<Begun>> {
        if matches!(self, Move::ClockJump | Move::ClockStrobe) {
            stage.allow_wrong_clocks();
        }
        let undo = match self {
            Move::KillGateway | Move::FreezeGateway => {
                let Some(gateway) = board.gateway(stage.rng) else {
                    return Ok(None);
                };
                self.to_gateway(stage, gateway)?
            }
            Move::BadNetwork => {
                if !board.take("network") {
                    return Ok(None);
                }
                let before = stage.cluster.network.struck();
                stage.cluster.network.disturb(BAD);
                Undo::Calm(before)
            }
            Move::DropConnections => Undo::Stop(Background::drop_connections(stage)),
            Move::Transfers => Undo::Stop(Background::transfers(stage)),
            Move::Operators => Undo::Stop(Background::operators(stage)),
            _ => {
                let Some(node) = board.node(stage.rng) else {
                    return Ok(None);
                };
                self.to_node(stage, board, node)?
            }
        };
        stage.history.note(format!("{self} begins: {undo}"));
        Ok(Some(Begun { what: self, undo }))
    }

    fn to_gateway(self, stage: &mut Stage<'_>, gateway: usize) -> Result<Undo> {
        let process = stage
            .cluster
            .gateways
            .get_mut(gateway)
            .context("no gateway")?;
        Ok(if self == Move::KillGateway {
            process.kill()?;
            Undo::StartGateway(gateway)
        } else {
            process.freeze()?;
            Undo::ThawGateway(gateway)
        })
    }

    fn to_node(self, stage: &mut Stage<'_>, board: &Board, node: u64) -> Result<Undo> {
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
                Undo::StartNode(node)
            }
            Move::FreezeNode => {
                cluster.node(node)?.freeze()?;
                Undo::ThawNode(node)
            }
            Move::CutNode => cut(stage, to.chain(from).collect()),
            Move::CutToNode => cut(stage, to.collect()),
            Move::CutFromNode => cut(stage, from.collect()),
            Move::Bridge => {
                let other = *others.choose(stage.rng).context("no other node")?;
                cut(stage, vec![(node, other), (other, node)])
            }
            Move::CutLinks => hold(stage, node, &both, Held::Cut),
            Move::CutLinksToNode => hold(stage, node, &both[..1], Held::Cut),
            Move::CutLinksToGateway => hold(stage, node, &both[1..], Held::Cut),
            Move::FreezeLinks => hold(stage, node, &both, Held::Frozen),
            Move::ClockJump => {
                let name = cluster.node(node)?.name.clone();
                let offset = JUMPS_MS.choose(stage.rng).copied().unwrap_or_default();
                let clocks = cluster.clocks.as_ref().context("no clocks")?;
                clocks.hand(&name)?.set(offset)?;
                stage
                    .strikes
                    .add(format!("clock of {name} by {} s", offset / 1000), 1);
                Undo::TrueClock(name)
            }
            Move::PowerCut => {
                let seed = stage.rng.random();
                for forgotten in cluster.cut_power(&[node], seed)? {
                    stage.history.note(forgotten);
                }
                Undo::StartNode(node)
            }
            Move::SlowDisk => {
                cluster.disk(node)?.slow(DiskOp::Sync, "*", SLOW_SYNC_MS)?;
                Undo::HealDisk(node)
            }
            Move::SilentDisk => {
                cluster.disk(node)?.hang(DiskOp::Sync, "*")?;
                Undo::HealDisk(node)
            }
            Move::FullDisk => {
                cluster.disk(node)?.fill(0)?;
                Undo::HealDisk(node)
            }
            Move::ClockStrobe => Undo::Stop(Background::strobe(stage, node)?),
            _ => bail!("{self} is not done to a node"),
        })
    }
}

const BAD: Disturbance = Disturbance {
    lost_percent: 10,
    doubled_percent: 10,
    delay_min: Duration::from_millis(1),
    delay_max: Duration::from_millis(30),
};

fn cut(stage: &Stage<'_>, ways: Vec<(u64, u64)>) -> Undo {
    let before = stage.cluster.network.struck();
    for (from, to) in &ways {
        stage.cluster.network.cut(*from, *to);
    }
    Undo::Mend(ways, before)
}

/// For one gateway, or for all.
fn hold(stage: &mut Stage<'_>, node: u64, directions: &[Direction], held: Held) -> Undo {
    let gateways = stage.cluster.gateways.iter();
    let mut gateways: Vec<Gateway> = gateways
        .filter_map(|gateway| gateway.pid().map(Some))
        .collect();
    gateways.push(None);
    let gateway = gateways.choose(stage.rng).copied().flatten();
    let links = &stage.cluster.links;
    let before = links.struck();
    for direction in directions {
        links.hold(node, gateway, *direction, held);
    }
    let rules = directions
        .iter()
        .map(|direction| (node, gateway, *direction));
    Undo::Open(rules.collect(), before)
}

impl Begun {
    /// Ends it; says whether it struck anything.
    pub fn end(self, stage: &mut Stage<'_>) -> Result<bool> {
        let what = self.what;
        stage.history.note(format!("{what} ends"));
        let struck = self.undo.undo(stage)?;
        stage
            .strikes
            .add(format!("{what} of {}", struck.0), struck.1);
        Ok(struck.1 > 0)
    }
}

impl Undo {
    /// Gives what was struck and how often.
    fn undo(self, stage: &mut Stage<'_>) -> Result<(String, u64)> {
        let cluster = &mut *stage.cluster;
        let on = self.to_string();
        Ok(match self {
            Undo::StartNode(node) => {
                cluster.node(node)?.start()?;
                (on, 1)
            }
            Undo::ThawNode(node) => {
                cluster.node(node)?.thaw()?;
                (on, 1)
            }
            Undo::StartGateway(gateway) => {
                cluster
                    .gateways
                    .get_mut(gateway)
                    .context("no gateway")?
                    .start()?;
                (on, 1)
            }
            Undo::ThawGateway(gateway) => {
                cluster
                    .gateways
                    .get(gateway)
                    .context("no gateway")?
                    .thaw()?;
                (on, 1)
            }
            Undo::Mend(ways, before) => {
                for (from, to) in &ways {
                    cluster.network.mend(*from, *to);
                }
                (on, cluster.network.struck().cut - before.cut)
            }
            Undo::Calm(before) => {
                cluster.network.disturb(Disturbance::default());
                let struck = cluster.network.struck();
                let each = [
                    ("lost", struck.lost - before.lost),
                    ("doubled", struck.doubled - before.doubled),
                    ("late", struck.delayed - before.delayed),
                    ("out of order", struck.overtook - before.overtook),
                ];
                for (how, times) in each {
                    stage.strikes.add(format!("packets {how}"), times);
                }
                let least = each.iter().map(|(_, times)| *times).min();
                (on, least.unwrap_or_default())
            }
            Undo::Open(rules, before) => {
                for (node, gateway, direction) in &rules {
                    cluster.links.open(*node, *gateway, *direction);
                }
                (on, cluster.links.struck() - before)
            }
            Undo::TrueClock(name) => {
                let clocks = cluster.clocks.as_ref().context("no clocks")?;
                clocks.hand(&name)?.set(0)?;
                (on, 1)
            }
            Undo::HealDisk(node) => {
                cluster.disk(node)?.heal()?;
                let process = cluster.node(node)?;
                // What a disk did is said in errors; a node that it ended is started, as whoever looks after it would.
                stage.allowed.processes.push(process.name.clone());
                if process.ended()?.is_some() {
                    process.start()?;
                }
                (on, 1)
            }
            Undo::Stop(background) => (on, background.stop(stage)?),
        })
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undo::StartNode(node) | Undo::ThawNode(node) => write!(f, "node {node}"),
            Undo::StartGateway(gateway) | Undo::ThawGateway(gateway) => {
                write!(f, "gateway {}", gateway + 1)
            }
            Undo::Mend(ways, _) => {
                let ways = ways.iter().map(|(from, to)| format!("{from}→{to}"));
                f.write_str(&ways.collect::<Vec<_>>().join(" "))
            }
            Undo::Calm(_) => f.write_str("packets between nodes"),
            Undo::Open(rules, _) => {
                let nodes: BTreeSet<u64> = rules.iter().map(|(node, ..)| *node).collect();
                let all = rules.iter().any(|(_, gateway, _)| gateway.is_none());
                let whose = if all { "all gateways" } else { "one gateway" };
                write!(f, "bytes between node {nodes:?} and {whose}")
            }
            Undo::TrueClock(name) => f.write_str(name),
            Undo::HealDisk(node) => write!(f, "the disk of node {node}"),
            Undo::Stop(background) => write!(f, "{background}"),
        }
    }
}
