//! Small faults with a beginning and an end, so that two can be on at once.

mod armed;
mod back;
mod background;
mod begun;
mod board;
mod onto;
mod shapes;

use std::fmt;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use rand::Rng;
use tokio::time::sleep;

use super::Stage;
use super::operators::Operators;
use super::retries::Retrying;
use background::Background;
pub use begun::Begun;
use begun::Undo;
pub use board::Board;

/// Longer than an election, with the connections' own time-outs.
const LENGTH_MS: std::ops::Range<u64> = 3000..6000;
const HEALED_WITHIN: Duration = Duration::from_secs(60);

/// A move by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Move {
    /// `kill -9` of a node; started again at the end.
    KillNode,
    /// `kill -9` of some nodes at once, or of all; started again at the end.
    KillNodes,
    /// A node is asked to stop; started again at the end.
    StopNode,
    /// `kill -9` of a node, which is started at the end, and killed again a few times before it is up.
    CrashLoop,
    /// A node is stopped; at the end it goes on.
    FreezeNode,
    /// A node is stopped; at the end it is killed, and started.
    FreezeAndKill,
    /// A node stands still for a moment, again and again.
    StutterNode,
    /// Nodes do not hear one of them, and it does not hear them.
    CutNode,
    /// It is heard, and hears nobody.
    CutToNode,
    /// It hears, and nobody hears it.
    CutFromNode,
    /// One half of the nodes does not hear the other.
    Halves,
    /// The same, but for one node that hears both and is heard by both.
    Bridge,
    /// Each node hears its neighbours in a ring, a majority of its own each. Needs five nodes.
    Ring,
    /// What a node says and is told waits, and comes all at once at the end.
    JamNode,
    /// Packets between nodes are lost, late, doubled, damaged, replayed and out of order.
    BadNetwork,
    /// Packets between nodes take as long as to another continent.
    SlowNetwork,
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
    /// It comes slowly.
    SlowLinks,
    /// It has wrong bits: TLS notices, and they connect again.
    DamageLinks,
    /// Connections of clients break, again and again.
    DropConnections,
    /// A node's clock is minutes or days off.
    ClockJump,
    /// A node's clock goes to and fro.
    ClockStrobe,
    /// The clocks of all nodes are days off, all alike: whoever leads has such a clock.
    ClocksJump,
    /// Every message twice through two gateways, those of earlier times first.
    Retries,
    /// Leaderships are handed over all the time.
    Transfers,
    /// Operators throw users out, replace secrets, disable an app, deny certificates, and ask and change this and that.
    Operators,
    /// A node's power fails: its disk forgets what was not synced. Started again at the end.
    PowerCut,
    /// The same of some nodes at once, or of all.
    PowerCuts,
    /// A node's disk takes long over each sync.
    SlowDisk,
    /// A node's disk does not end a sync.
    SilentDisk,
    /// A node's disk has no room left.
    FullDisk,
    /// A shard becomes two.
    Split,
    /// A new node comes in the place of one that lives.
    ReplaceNode,
    /// A node ends at a place in its code that is passed all the time. Started again at the end.
    Crash,
    /// The leader of a shard ends at a place in its code as the shard becomes two.
    CrashInSplit,
    /// A new node ends as it is fed, or a leader as its voters change, when a node is replaced.
    CrashInReplacement,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("unnamed", |value| value.get_name()))
    }
}

/// One after the other, each on the node that leads most, with time to heal.
pub(super) async fn each(stage: &mut Stage<'_>, moves: &[Move]) -> Result<()> {
    for what in moves {
        let mut board = Board::look(stage).await?;
        let begun = what.begin(stage, &mut board)?;
        let begun = begun.map_err(|why| anyhow!("{what}: {why}"))?;
        sleep(Duration::from_millis(stage.rng.random_range(LENGTH_MS))).await;
        if begun.end(stage).await?.is_none() {
            bail!("{what} never struck");
        }
        stage.heal(HEALED_WITHIN).await?;
    }
    Ok(())
}

/// All at once; they end in the order in which they are named, so that the last ones go on while the first are waited for.
pub(super) async fn together(stage: &mut Stage<'_>, moves: &[Move]) -> Result<()> {
    let mut board = Board::look(stage).await?.by_chance();
    let mut begun = Vec::new();
    for what in moves.iter().rev() {
        let one = what.begin(stage, &mut board)?;
        begun.push(one.map_err(|why| anyhow!("{what}: {why}"))?);
    }
    sleep(Duration::from_millis(stage.rng.random_range(LENGTH_MS))).await;
    for (what, one) in moves.iter().zip(begun.into_iter().rev()) {
        if one.end(stage).await?.is_none() {
            bail!("{what} never struck");
        }
    }
    stage.heal(HEALED_WITHIN).await
}

impl Move {
    /// It needs a disk that can be made to fail.
    pub fn needs_disks(self) -> bool {
        matches!(
            self,
            Move::PowerCut | Move::PowerCuts | Move::SlowDisk | Move::SilentDisk | Move::FullDisk
        )
    }

    fn is_on_links(self) -> bool {
        matches!(
            self,
            Move::CutLinks
                | Move::CutLinksToNode
                | Move::CutLinksToGateway
                | Move::FreezeLinks
                | Move::SlowLinks
                | Move::DamageLinks
        )
    }

    /// With fewer nodes there is nothing to do.
    pub fn needs_nodes(self) -> u64 {
        if self == Move::Ring { 5 } else { 2 }
    }

    /// It needs a build with switches.
    pub fn needs_switches(self) -> bool {
        matches!(
            self,
            Move::Crash | Move::CrashInSplit | Move::CrashInReplacement
        )
    }

    /// Begins it, on something that no other move is on; or says why there is nothing.
    pub fn begin(
        self,
        stage: &mut Stage<'_>,
        board: &mut Board,
    ) -> Result<Result<Begun, &'static str>> {
        if matches!(self, Move::ClockJump | Move::ClockStrobe | Move::ClocksJump) {
            stage.allow_wrong_clocks();
        }
        let undo = match self {
            Move::KillGateway | Move::FreezeGateway => {
                let Some(gateway) = board.gateway(stage.rng) else {
                    return Ok(Err("no gateway is free"));
                };
                self.to_gateway(stage, gateway)?
            }
            Move::BadNetwork | Move::SlowNetwork => {
                if !board.take("network") {
                    return Ok(Err("the network has another weather"));
                }
                self.to_network(stage)
            }
            Move::Halves | Move::Bridge | Move::Ring => {
                if !board.take("shape") {
                    return Ok(Err("the network has another shape"));
                }
                let nodes = board.order(stage.rng);
                onto::cut(stage, self.cuts(&nodes))
            }
            Move::KillNodes | Move::PowerCuts => {
                let Some(nodes) = board.some_nodes(stage.rng) else {
                    return Ok(Err("fewer than two nodes are free"));
                };
                self.to_nodes(stage, nodes)?
            }
            Move::DropConnections => Undo::Stop(Background::drop_connections(stage)),
            Move::Transfers => Undo::Stop(Background::transfers(stage)),
            Move::Operators => Undo::Operate(Operators::begin(stage)?),
            Move::Retries => Undo::Retry(Retrying::begin(stage)?),
            Move::ClocksJump => onto::clocks_jump(stage)?,
            Move::Split | Move::CrashInSplit => {
                let Some(shard) = board.shard(stage.rng, self == Move::CrashInSplit) else {
                    return Ok(Err("no shard may be split, or its leader is not free"));
                };
                self.to_shard(stage, &shard)?
            }
            _ => {
                let node = match self.is_on_links() {
                    true => board.leading_node(stage.rng),
                    false => board.node(stage.rng),
                };
                let Some(node) = node else {
                    return Ok(Err("no node is free"));
                };
                self.to_node(stage, board, node)?
            }
        };
        stage.history.note(format!("{self} begins: {undo}"));
        Ok(Ok(Begun {
            what: self,
            undo,
            crashed: None,
        }))
    }
}
