//! A disk is lost. An empty directory under the old id is refused; a new member takes the place, by snapshot.

use std::time::Duration;

use anyhow::{Result, bail};
use rand::Rng;
use tokio::time::sleep;

use super::Stage;
use crate::cluster::START_WITHIN;
use crate::logs;
use crate::wait::until;

/// How long a node that must not come in is watched.
const WATCHED: Duration = Duration::from_secs(4);
const MENDED_WITHIN: Duration = Duration::from_secs(90);

pub(super) async fn wiped_node(stage: &mut Stage<'_>) -> Result<()> {
    let at = stage.rng.random_range(0..stage.cluster.nodes.len());
    let old = stage.cluster.nodes.keys().copied().nth(at).unwrap_or(1);
    stage
        .history
        .note(format!("kill -9 of node {old}, its disk is lost"));
    stage.cluster.node(old)?.kill()?;
    std::fs::remove_dir_all(stage.cluster.data_dir(old))?;
    stage.strike(format!("lost disk of node {old}"));
    empty_under_the_old_id_stays_out(stage, old).await?;
    let new = stage.cluster.replace_node(old).await?;
    stage
        .history
        .note(format!("node {new} was brought in for node {old}"));
    stage.cluster.wait_node_ready(new, START_WITHIN).await?;
    let within = MENDED_WITHIN + stage.patience;
    stage.cluster.wait_healthy(within).await?;
    let installed = stage
        .cluster
        .node_metric(new, "parlance_node_snapshots_total", "installed")
        .await?;
    stage.history.note(format!(
        "node {new} votes everywhere; it installed {installed} snapshots"
    ));
    if installed == 0.0 {
        bail!("node {new} caught up without a snapshot: the log was not short enough to test one");
    }
    Ok(())
}

/// Two machines are exchanged, as an operator would do it who is in a hurry. While the first is moving the second is refused.
pub(super) async fn two_living_nodes(stage: &mut Stage<'_>) -> Result<()> {
    let mut old: Vec<u64> = stage.cluster.nodes.keys().copied().collect();
    old.truncate(2);
    let within = MENDED_WITHIN + stage.patience;
    for old in old {
        stage.allow_replacement(old)?;
        let new = stage.cluster.replace_live_node(old, within).await?;
        stage.strike(format!("replacement of node {old} by node {new}"));
        stage.history.note(format!(
            "node {new} takes the place of node {old}, which lives"
        ));
    }
    stage.heal(MENDED_WITHIN).await?;
    // They serve until nobody needs them, and then end by themselves.
    until("the replaced nodes have ended", within, async || {
        for process in &mut stage.cluster.retired {
            if process.ended()?.is_none() && process.runs() {
                bail!("{} still runs", process.name);
            }
        }
        Ok(())
    })
    .await
}

/// A wiped node that came back as its old self could vote for a leader that lacks what it had acknowledged.
async fn empty_under_the_old_id_stays_out(stage: &mut Stage<'_>, old: u64) -> Result<()> {
    stage.history.note(format!(
        "start of node {old} with an empty disk: it must stay out"
    ));
    let name = stage.cluster.node(old)?.name.clone();
    stage.allowed.processes.push(name);
    stage.cluster.node(old)?.start()?;
    sleep(WATCHED).await;
    let ended = stage.cluster.node(old)?.ended()?;
    match ended {
        Some(status) if status.success() => {
            bail!("node {old} with an empty disk ended as if all were well")
        }
        Some(_) => {}
        None => {
            let ready = stage
                .cluster
                .wait_node_ready(old, Duration::from_millis(500))
                .await;
            if ready.is_ok() {
                bail!("node {old} with an empty disk says that it is ready");
            }
        }
    }
    let log = logs::read(stage.cluster.node(old)?.log())?;
    if !log.contains("replace") {
        bail!(
            "node {old} with an empty disk does not say what to do (nothing of `node replace` in its log)"
        );
    }
    stage.cluster.node(old)?.kill()
}
