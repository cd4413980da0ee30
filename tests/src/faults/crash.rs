//! A node ends at a place that is named in its code, and comes back. `node/src/sabotage.rs` has the places.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::sleep;

use super::Stage;
use super::split::a_wide_shard;
use crate::cluster::START_WITHIN;
use crate::wait::until;

/// A place that is passed all the time, or that something is done for.
const STRUCK_WITHIN: Duration = Duration::from_secs(30);
const DEAD: Duration = Duration::from_millis(1500);
const MENDED_WITHIN: Duration = Duration::from_secs(90);

/// Under load alone.
pub(super) const ALWAYS: [&str; 6] = [
    "before-log-save",
    "after-log-save",
    "before-apply",
    "after-apply",
    "before-snapshot-build",
    "after-snapshot-build",
];
/// When a new node is fed by snapshot.
pub(super) const INSTALLS: [&str; 3] = [
    "before-snapshot-install",
    "in-snapshot-install",
    "after-snapshot-install",
];
pub(super) const SPLITS: [&str; 2] = ["in-split", "after-split"];
/// When a node is replaced.
pub(super) const VOTERS: [&str; 2] = ["before-voters-change", "after-voters-change"];

pub(super) async fn at_each_point(stage: &mut Stage<'_>) -> Result<()> {
    for point in ALWAYS {
        let node_id = stage.cluster.busiest_leader().await?;
        arm(stage, node_id, point)?;
        ends_and_comes_back(stage, node_id, point).await?;
    }
    for point in INSTALLS {
        fed_by_snapshot(stage, point).await?;
    }
    for point in SPLITS {
        splits(stage, point).await?;
    }
    for point in VOTERS {
        is_replaced(stage, point).await?;
    }
    Ok(())
}

fn arm(stage: &mut Stage<'_>, node_id: u64, point: &str) -> Result<()> {
    let name = stage.cluster.node(node_id)?.name.clone();
    Ok(std::fs::write(stage.cluster.crash_file(&name), point)?)
}

fn disarm(stage: &mut Stage<'_>, node_id: u64) -> Result<()> {
    let name = stage.cluster.node(node_id)?.name.clone();
    let _ = std::fs::remove_file(stage.cluster.crash_file(&name)); // it may have struck
    Ok(())
}

/// Waits until one of these has ended at the point.
async fn struck(stage: &mut Stage<'_>, node_ids: &[u64], point: &str) -> Result<u64> {
    let cluster = &mut *stage.cluster;
    let what = format!("a node ends at {point}");
    let node_id = until(&what, STRUCK_WITHIN, async || {
        for node_id in node_ids {
            if cluster.node(*node_id)?.ended()?.is_some() {
                return Ok(*node_id);
            }
        }
        Err(anyhow!("all of {node_ids:?} run on"))
    })
    .await?;
    stage
        .history
        .note(format!("node {node_id} ended at {point}"));
    stage.strike(format!("node {node_id} at {point}"));
    Ok(node_id)
}

async fn ends_and_comes_back(stage: &mut Stage<'_>, node_id: u64, point: &str) -> Result<()> {
    struck(stage, &[node_id], point).await?;
    sleep(DEAD).await;
    stage.cluster.node(node_id)?.start()?;
    stage.heal(MENDED_WITHIN).await
}

async fn fed_by_snapshot(stage: &mut Stage<'_>, point: &str) -> Result<()> {
    let node_ids = stage.cluster.nodes.keys().copied();
    let (old, newest) = (node_ids.clone().min(), node_ids.max());
    let (old, new) = (old.context("no node")?, newest.context("no node")? + 1);
    std::fs::write(stage.cluster.crash_file(&format!("node-{new}")), point)?;
    replaced(stage, old).await?;
    ends_and_comes_back(stage, new, point).await
}

/// A new node comes in the place of one that lives.
async fn replaced(stage: &mut Stage<'_>, old: u64) -> Result<()> {
    stage.allow_replacement(old)?;
    stage.cluster.replace_live_node(old, MENDED_WITHIN).await?;
    Ok(())
}

async fn splits(stage: &mut Stage<'_>, point: &str) -> Result<()> {
    let shard = a_wide_shard(stage).await?;
    arm(stage, shard.leader, point)?;
    let splitting = stage.cluster.begin_split(shard.shard).await?;
    struck(stage, &[shard.leader], point).await?;
    sleep(DEAD).await;
    stage.cluster.node(shard.leader)?.start()?;
    splitting.done().await?;
    stage.heal(MENDED_WITHIN).await
}

/// Whoever leads a shard when its voters change.
async fn is_replaced(stage: &mut Stage<'_>, point: &str) -> Result<()> {
    let node_ids: Vec<u64> = stage.cluster.nodes.keys().copied().collect();
    let old = *node_ids.first().context("no node")?;
    let others: Vec<u64> = node_ids.into_iter().filter(|id| *id != old).collect();
    for node_id in &others {
        arm(stage, *node_id, point)?;
    }
    replaced(stage, old).await?;
    let ended = struck(stage, &others, point).await?;
    for node_id in &others {
        disarm(stage, *node_id)?;
    }
    sleep(DEAD).await;
    for node_id in others {
        // The other one may have come by, too.
        if stage.cluster.node(node_id)?.ended()?.is_some() || node_id == ended {
            stage.cluster.node(node_id)?.start()?;
        }
    }
    stage.cluster.wait_node_ready(ended, START_WITHIN).await?;
    stage.heal(MENDED_WITHIN).await
}
