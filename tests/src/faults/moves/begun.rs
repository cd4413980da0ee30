//! Moves that are on, and how they end.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, Result};

use super::super::Stage;
use super::super::operators::Operators;
use super::super::retries::Retrying;
use super::Move;
use super::armed::Armed;
use super::back::Back;
use super::background::Background;
use super::onto::FULL;
use crate::cluster::links::Rule;
use crate::cluster::network::{Disturbance, Struck, Way};
use crate::cluster::replace::Replacing;
use crate::cluster::shards::Splitting;

/// A move that is on.
pub struct Begun {
    pub(super) what: Move,
    pub(super) undo: Undo,
    /// How often the crash in it has struck, once its nodes have been started again.
    pub(super) crashed: Option<u64>,
}

pub(super) enum Undo {
    Process(Back),
    /// How many packets or bytes they had stopped before.
    Mend(Vec<Way>, u64),
    Release(Vec<Way>, u64),
    Open(Vec<Rule>, u64),
    Calm(Disturbance, Struck),
    TrueClocks(Vec<String>),
    /// What its fault is called, and how often it had struck before.
    HealDisk(u64, &'static str, u64),
    Stop(Background),
    Operate(Operators),
    Retry(Retrying),
    Crash(Armed),
    Split(u32, Splitting, Option<Armed>),
    Replace(Replacing, Option<Armed>),
}

impl Begun {
    /// Its end is something to wait for, which may need that nothing else is on.
    pub fn waits(&self) -> bool {
        matches!(
            self.undo,
            Undo::Crash(_) | Undo::Split(..) | Undo::Replace(..) | Undo::Operate(_)
        )
    }

    /// At its end it looks at all nodes: none of them may be about to be replaced.
    pub fn looks_at_all(&self) -> bool {
        matches!(self.undo, Undo::Operate(_))
    }

    /// Waits until whoever is to crash in it has, and starts them again: before anything that needs them is waited for.
    pub async fn start_crashed(&mut self, stage: &mut Stage<'_>) -> Result<()> {
        let armed = match &self.undo {
            Undo::Crash(armed) => Some(armed),
            Undo::Split(.., armed) | Undo::Replace(_, armed) => armed.as_ref(),
            _ => None,
        };
        if let Some(armed) = armed {
            self.crashed = Some(armed.end(stage).await?);
        }
        Ok(())
    }

    /// Ends it; gives it if it struck anything.
    pub async fn end(mut self, stage: &mut Stage<'_>) -> Result<Option<Move>> {
        let what = self.what;
        stage.history.note(format!("{what} ends"));
        if self.crashed.is_none() {
            self.start_crashed(stage).await?;
        }
        let (on, struck) = self.undo.undo(stage).await?;
        let struck = self.crashed.unwrap_or(struck);
        stage.strikes.add(format!("{what} of {on}"), struck);
        Ok((struck > 0).then_some(what))
    }
}

impl Undo {
    /// Gives what was struck and how often.
    async fn undo(self, stage: &mut Stage<'_>) -> Result<(String, u64)> {
        let cluster = &mut *stage.cluster;
        let on = self.to_string();
        Ok(match self {
            Undo::Process(back) => (on, back.come(stage).await?),
            Undo::Mend(ways, before) => {
                for (from, to) in &ways {
                    cluster.network.mend(*from, *to);
                }
                (on, cluster.network.stopped(&ways) - before)
            }
            Undo::Release(ways, before) => {
                for (from, to) in &ways {
                    cluster.network.release(*from, *to);
                }
                (on, cluster.network.stopped(&ways) - before)
            }
            Undo::Calm(does, before) => (on, calm(stage, does, before)),
            Undo::Open(rules, before) => {
                for (node, gateway, direction) in &rules {
                    cluster.links.open(*node, *gateway, *direction);
                }
                (on, cluster.links.struck(&rules) - before)
            }
            Undo::TrueClocks(names) => {
                let clocks = cluster.clocks.as_ref().context("no clocks")?;
                for name in names {
                    clocks.hand(&name)?.set(0)?;
                }
                (on, 1)
            }
            Undo::HealDisk(node, what, before) => {
                (on, heal_disk(stage, node, what).await? - before)
            }
            Undo::Stop(background) => (on, background.stop(stage)?),
            Undo::Operate(operators) => (on, operators.end(stage).await?),
            Undo::Retry(retrying) => (on, retrying.end().await?),
            // Its nodes have been started.
            Undo::Crash(_) => (on, 0),
            Undo::Split(_, splitting, _) => {
                let child = splitting.done().await?.child;
                stage.history.note(format!("shard {child} is there"));
                (on, 1)
            }
            Undo::Replace(replacing, _) => {
                let new = replacing.taken(stage.cluster).await?;
                stage.history.note(format!("node {new} is in"));
                (on, 1)
            }
        })
    }
}

/// The network is well again; how often it struck in the way in which it did least.
fn calm(stage: &mut Stage<'_>, does: Disturbance, before: Struck) -> u64 {
    let network = &stage.cluster.network;
    network.disturb(Disturbance::default());
    let struck = network.struck();
    let since = |of: fn(&Struck) -> u64| of(&struck) - of(&before);
    let mixed = does.delay_max > does.delay_min;
    let each = [
        ("lost", does.lost_percent > 0, since(|s| s.lost)),
        ("doubled", does.doubled_percent > 0, since(|s| s.doubled)),
        ("damaged", does.damaged_percent > 0, since(|s| s.damaged)),
        ("replayed", does.replayed_percent > 0, since(|s| s.replayed)),
        ("late", !does.delay_max.is_zero(), since(|s| s.delayed)),
        ("out of order", mixed, since(|s| s.overtook)),
    ];
    let each = each.into_iter().filter(|(_, does, _)| *does);
    let mut least = u64::MAX;
    for (how, _, times) in each {
        stage.strikes.add(format!("packets {how}"), times);
        least = least.min(times);
    }
    least
}

/// What a disk did is said in errors; a node that it ended is started, as whoever looks after it would. Says how often it has
/// struck in all: a node that stops writing before its disk is full, or ends over it, was struck too.
async fn heal_disk(stage: &mut Stage<'_>, node: u64, what: &str) -> Result<u64> {
    let cluster = &mut *stage.cluster;
    let name = "parlance_node_disk_lacking";
    let noticed = what == FULL
        && cluster
            .node_metric(node, name, "")
            .await
            .is_ok_and(|is| is > 0.0);
    let disk = cluster.disk(node)?;
    let struck = disk.times(what)?;
    disk.heal()?;
    let process = cluster.node(node)?;
    stage.allowed.processes.push(process.name.clone());
    let ended = process.ended()?.is_some();
    if ended {
        process.start()?;
    }
    Ok(struck + u64::from(noticed || ended))
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undo::Process(back) => write!(f, "{back}"),
            Undo::Mend(ways, _) | Undo::Release(ways, _) => {
                let ways = ways.iter().map(|(from, to)| format!("{from}→{to}"));
                f.write_str(&ways.collect::<Vec<_>>().join(" "))
            }
            Undo::Calm(..) => f.write_str("packets between nodes"),
            Undo::Open(rules, _) => {
                let nodes: BTreeSet<u64> = rules.iter().map(|(node, ..)| *node).collect();
                let all = rules.iter().any(|(_, gateway, _)| gateway.is_none());
                let whose = if all { "all gateways" } else { "one gateway" };
                write!(f, "bytes between node {nodes:?} and {whose}")
            }
            Undo::TrueClocks(names) => f.write_str(&names.join(" ")),
            Undo::HealDisk(node, ..) => write!(f, "the disk of node {node}"),
            Undo::Stop(background) => write!(f, "{background}"),
            Undo::Operate(operators) => write!(f, "{operators}"),
            Undo::Retry(_) => f.write_str("messages"),
            Undo::Crash(armed) => write!(f, "{armed}"),
            Undo::Split(shard, _, armed) => {
                write!(f, "shard {shard}")?;
                armed.iter().try_for_each(|armed| write!(f, ", {armed}"))
            }
            Undo::Replace(replacing, armed) => {
                let Replacing { old, new, .. } = replacing;
                write!(f, "node {old} by node {new}")?;
                armed.iter().try_for_each(|armed| write!(f, ", {armed}"))
            }
        }
    }
}
