//! Disks that fail under load: power cuts, no room, no answer. Each says what it struck, and how often.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::time::sleep;

use super::Stage;
use crate::cluster::START_WITHIN;
use crate::disk::DiskOp;
use crate::wait::until;

/// Long enough for the others to elect new leaders.
const DARK_MS: std::ops::Range<u64> = 500..2500;
/// How long a disk is full, slow or silent.
const TROUBLED_MS: std::ops::Range<u64> = 2500..5000;
/// What is left of a disk that is getting full: below the reserve, below half of it, nothing.
const LEFT_BYTES: [u64; 3] = [800 << 20, 300 << 20, 0];
const SLOW_SYNC_MS: u64 = 400;
/// What is said of a cluster that a power cut was too much for.
pub const NOT_BACK: &str = "the cluster is not back after the power cut";

/// The power of one node fails, then that of all of them.
pub(super) async fn power_cut(stage: &mut Stage<'_>) -> Result<()> {
    let (one, all) = (one(stage)?, all(stage));
    power_cut_of(stage, &[one]).await?;
    power_cut_of(stage, &all).await
}

async fn power_cut_of(stage: &mut Stage<'_>, node_ids: &[u64]) -> Result<()> {
    stage
        .history
        .note(format!("the power of nodes {node_ids:?} fails"));
    let seed = stage.rng.random();
    let forgotten = stage.cluster.cut_power(node_ids, seed)?;
    stage.strike(format!("power of nodes {node_ids:?}"));
    for forgotten in forgotten {
        stage.history.note(forgotten);
    }
    sleep(Duration::from_millis(stage.rng.random_range(DARK_MS))).await;
    stage.history.note("the power is back");
    for node_id in node_ids {
        stage.cluster.node(*node_id)?.start()?;
    }
    healed(stage).await.context(NOT_BACK)
}

/// The disk of one node gets full, step by step, then those of all of them.
pub(super) async fn full(stage: &mut Stage<'_>) -> Result<()> {
    let (one, all) = (one(stage)?, all(stage));
    for node_ids in [vec![one], all] {
        for left in LEFT_BYTES {
            stage
                .history
                .note(format!("{left} bytes fit on the disks of {node_ids:?}"));
            for node_id in &node_ids {
                stage.cluster.disk(*node_id)?.fill(left)?;
                notices(stage, *node_id).await?;
            }
            stage.strike(format!("{left} bytes left for nodes {node_ids:?}"));
            troubled(stage).await;
        }
        well_again(stage, &node_ids).await?;
    }
    Ok(())
}

/// Syncs of the busiest leader's disk take long, then do not end.
pub(super) async fn slow(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.cluster.busiest_leader().await?;
    stage
        .history
        .note(format!("syncs of node {leader} take {SLOW_SYNC_MS} ms"));
    let disk = stage.cluster.disk(leader)?;
    disk.slow(DiskOp::Sync, "*", SLOW_SYNC_MS)?;
    troubled(stage).await;
    has_struck(stage, leader, "sync slow")?;
    well_again(stage, &[leader]).await?;
    let leader = stage.cluster.busiest_leader().await?;
    stage
        .history
        .note(format!("syncs of node {leader} do not end"));
    stage.cluster.disk(leader)?.hang(DiskOp::Sync, "*")?;
    troubled(stage).await;
    has_struck(stage, leader, "sync hang")?;
    well_again(stage, &[leader]).await
}

/// A node whose disk gets full says so, or has ended over it.
async fn notices(stage: &mut Stage<'_>, node_id: u64) -> Result<()> {
    until("a node notices its full disk", START_WITHIN, async || {
        if stage.cluster.node(node_id)?.has_ended()? {
            return Ok(());
        }
        let name = "parlance_node_disk_lacking";
        let lacking = stage.cluster.node_metric(node_id, name, "").await?;
        ensure!(lacking > 0.0, "node {node_id}: {name} is {lacking}");
        Ok(())
    })
    .await
}

fn has_struck(stage: &Stage<'_>, node_id: u64, what: &str) -> Result<()> {
    let struck = stage.cluster.disk(node_id)?.struck()?;
    ensure!(
        struck.contains(what),
        "no {what} at node {node_id}: {struck:?}"
    );
    Ok(())
}

fn all(stage: &Stage<'_>) -> Vec<u64> {
    stage.cluster.nodes.keys().copied().collect()
}

fn one(stage: &mut Stage<'_>) -> Result<u64> {
    let all = all(stage);
    all.choose(stage.rng).copied().context("no node")
}

async fn troubled(stage: &mut Stage<'_>) {
    sleep(Duration::from_millis(stage.rng.random_range(TROUBLED_MS))).await;
}

/// The disks work again. A node that has ended over them is started, as whoever looks after it would.
async fn well_again(stage: &mut Stage<'_>, node_ids: &[u64]) -> Result<()> {
    for node_id in node_ids {
        let disk = stage.cluster.disk(*node_id)?;
        disk.heal()?;
        let struck = disk.struck()?;
        if !struck.is_empty() {
            stage.strike(format!("disk of node {node_id}: {struck}"));
        }
        stage.history.note(format!(
            "the disk of node {node_id} is well again; {struck}"
        ));
        let node = stage.cluster.node(*node_id)?;
        // Disks that failed are said in errors.
        let name = node.name.clone();
        if let Some(status) = node.ended()? {
            stage.history.note(format!("{name} ended with {status}"));
            stage.cluster.node(*node_id)?.start()?;
        }
        stage.allowed.processes.push(name);
    }
    healed(stage).await
}

async fn healed(stage: &mut Stage<'_>) -> Result<()> {
    stage.cluster.wait_nodes_ready(START_WITHIN).await?;
    stage.cluster.wait_healthy(START_WITHIN).await
}
