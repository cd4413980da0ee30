//! Sudden death: nobody gets to say goodbye or to flush.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use tokio::time::sleep;

use super::Stage;
use crate::cluster::START_WITHIN;

/// Long enough for the others to elect new leaders.
const DEAD_MS: std::ops::Range<u64> = 1500..3000;

pub(super) async fn each_node(stage: &mut Stage<'_>) -> Result<()> {
    let node_ids: Vec<u64> = stage.cluster.nodes.keys().copied().collect();
    for node_id in node_ids {
        stage.history.note(format!("kill -9 of node {node_id}"));
        stage.cluster.node(node_id)?.kill()?;
        stage.strike(format!("kill of node {node_id}"));
        dead(stage).await;
        stage.history.note(format!("start of node {node_id}"));
        stage.cluster.node(node_id)?.start()?;
        stage.cluster.wait_node_ready(node_id, START_WITHIN).await?;
        stage.cluster.wait_healthy(START_WITHIN).await?;
    }
    Ok(())
}

pub(super) async fn all_nodes(stage: &mut Stage<'_>) -> Result<()> {
    stage.history.note("kill -9 of all nodes");
    stage.cluster.kill_all_nodes()?;
    stage.strike("kill of all nodes");
    dead(stage).await;
    stage.history.note("start of all nodes");
    stage.cluster.start_all_nodes()?;
    stage.cluster.wait_nodes_ready(START_WITHIN).await?;
    stage.cluster.wait_healthy(START_WITHIN).await
}

pub(super) async fn each_gateway(stage: &mut Stage<'_>) -> Result<()> {
    for number in 0..stage.cluster.gateways.len() {
        stage
            .history
            .note(format!("kill -9 of gateway {}", number + 1));
        stage.cluster.gateways[number].kill()?;
        stage.strike(format!("kill of gateway {}", number + 1));
        dead(stage).await;
        stage
            .history
            .note(format!("start of gateway {}", number + 1));
        stage.cluster.gateways[number].start()?;
        stage.cluster.wait_gateways_ready(START_WITHIN).await?;
        stage.load.wait_online(START_WITHIN).await?;
    }
    Ok(())
}

async fn dead(stage: &mut Stage<'_>) {
    sleep(Duration::from_millis(stage.rng.random_range(DEAD_MS))).await;
}
