//! Clocks that are wrong, or turn to another day, while messages are sent twice.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{Stage, retries};
use crate::clock::unix_seconds;

/// More than ids are remembered for.
const AHEAD_MS: i64 = 48 * 3_600_000;
const DAY_S: i64 = 24 * 3600;
/// Midnight comes while messages are sent twice for the first time.
const BEFORE_MIDNIGHT_S: i64 = 5;
const HEALED_WITHIN: Duration = Duration::from_secs(60);

/// What was sent before is sent again when whoever leads next may be the one whose clock is wrong; then when whoever leads has
/// such a clock, since all have: they agree, so none of them is wrong.
pub(super) async fn ahead_under_retries(stage: &mut Stage<'_>) -> Result<()> {
    retries::run(stage).await?;
    let leader = stage.cluster.busiest_leader().await?;
    let nodes: Vec<u64> = stage.cluster.nodes.keys().copied().collect();
    let wrong = nodes.iter().find(|id| **id != leader);
    let wrong = *wrong.context("one node is not enough")?;
    ahead(stage, &[wrong])?;
    retries::run(stage).await?;
    ahead(stage, &nodes)?;
    retries::run(stage).await?;
    for node in nodes {
        set(stage, node, 0)?;
    }
    stage.heal(HEALED_WITHIN).await
}

fn ahead(stage: &mut Stage<'_>, nodes: &[u64]) -> Result<()> {
    for node in nodes {
        set(stage, *node, AHEAD_MS)?;
        stage.strike(format!("clock of node {node}"));
    }
    stage
        .history
        .note(format!("the clocks of nodes {nodes:?} are two days ahead"));
    Ok(())
}

/// All nodes see the same midnight, and what was sent before it is sent again. Their clocks stay where they are then.
pub(super) async fn day_change(stage: &mut Stage<'_>) -> Result<()> {
    let now = unix_seconds();
    let offset_s = DAY_S - now % DAY_S - BEFORE_MIDNIGHT_S;
    let nodes: Vec<u64> = stage.cluster.nodes.keys().copied().collect();
    for node in &nodes {
        set(stage, *node, offset_s * 1000)?;
    }
    stage.history.note(format!(
        "in {BEFORE_MIDNIGHT_S} s it is midnight on all nodes"
    ));
    retries::run(stage).await?;
    while unix_seconds() + offset_s < now + offset_s + BEFORE_MIDNIGHT_S {
        sleep(Duration::from_millis(100)).await;
    }
    retries::run(stage).await?;
    for node in nodes {
        stage.strike(format!("midnight of node {node}"));
    }
    stage.heal(HEALED_WITHIN).await
}

fn set(stage: &mut Stage<'_>, node: u64, offset_ms: i64) -> Result<()> {
    stage.allow_wrong_clocks();
    let name = stage.cluster.node(node)?.name.clone();
    let clocks = stage.cluster.clocks.as_ref().context("no clocks")?;
    clocks.hand(&name)?.set(offset_ms)
}
