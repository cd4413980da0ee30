//! The network between nodes: a leader alone, a leader that is heard but hears nobody, packets lost and late.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use tokio::time::sleep;

use super::Stage;
use crate::cluster::START_WITHIN;

/// Longer than an election, with the connections' own time-outs.
const CUT_MS: std::ops::Range<u64> = 3000..7000;
const LOSS_PERCENT: u8 = 10;
const DELAY_MAX: Duration = Duration::from_millis(20);
const DISTURBED: Duration = Duration::from_secs(6);

/// The clients still reach the leader that nobody follows any more.
pub(super) async fn partition(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.cluster.busiest_leader().await?;
    stage
        .history
        .note(format!("node {leader} is cut off from the others"));
    for other in others(stage, leader) {
        stage.cluster.network.cut(leader, other);
        stage.cluster.network.cut(other, leader);
    }
    heal_after_a_while(stage).await?;
    let leader = stage.cluster.busiest_leader().await?;
    stage.history.note(format!(
        "node {leader} is heard by the others and hears none of them"
    ));
    for other in others(stage, leader) {
        stage.cluster.network.cut(other, leader);
    }
    heal_after_a_while(stage).await
}

pub(super) async fn disturbed(stage: &mut Stage<'_>) -> Result<()> {
    stage.history.note(format!(
        "{LOSS_PERCENT} % of all packets between nodes are lost, the others late"
    ));
    stage.cluster.network.disturb(LOSS_PERCENT, DELAY_MAX);
    sleep(DISTURBED).await;
    heal(stage).await
}

fn others(stage: &Stage<'_>, node_id: u64) -> Vec<u64> {
    stage
        .cluster
        .nodes
        .keys()
        .copied()
        .filter(|other| *other != node_id)
        .collect()
}

async fn heal_after_a_while(stage: &mut Stage<'_>) -> Result<()> {
    sleep(Duration::from_millis(stage.rng.random_range(CUT_MS))).await;
    heal(stage).await
}

async fn heal(stage: &mut Stage<'_>) -> Result<()> {
    stage
        .history
        .note("the network between nodes is well again");
    stage.cluster.network.heal();
    stage.cluster.wait_nodes_ready(START_WITHIN).await?;
    stage.cluster.wait_healthy(START_WITHIN).await
}
