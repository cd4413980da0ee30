//! An upgrade: one process after the other is asked to stop, and started again. Nobody who chats may notice.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::sleep;

use super::Stage;
use crate::cluster::{START_WITHIN, STOP_WITHIN};
use crate::history::What;

pub(super) async fn rolling(stage: &mut Stage<'_>) -> Result<()> {
    let refused_before = refused(stage);
    let errors_before = stage.load.error_answers();
    let node_ids: Vec<u64> = stage.cluster.nodes.keys().copied().collect();
    for node_id in node_ids {
        stage
            .history
            .note(format!("node {node_id} is asked to stop"));
        stage.cluster.node(node_id)?.stop(STOP_WITHIN).await?;
        stage.strike(format!("restart of node {node_id}"));
        stage.history.note(format!("start of node {node_id}"));
        stage.cluster.node(node_id)?.start()?;
        stage.cluster.wait_node_ready(node_id, START_WITHIN).await?;
        stage.cluster.wait_healthy(START_WITHIN).await?;
    }
    for number in 0..stage.cluster.gateways.len() {
        stage
            .history
            .note(format!("gateway {} is asked to stop", number + 1));
        stage.cluster.gateways[number].stop(STOP_WITHIN).await?;
        stage.strike(format!("restart of gateway {}", number + 1));
        stage
            .history
            .note(format!("start of gateway {}", number + 1));
        stage.cluster.gateways[number].start()?;
        stage.cluster.wait_gateways_ready(START_WITHIN).await?;
        stage.load.wait_online(START_WITHIN).await?;
    }
    let failed = refused(stage) - refused_before;
    if failed > 0 {
        bail!("{failed} sends failed during a rolling restart");
    }
    let errors = stage.load.error_answers() - errors_before;
    stage.history.note(format!(
        "rolling restart: {errors} error answers, all mended by a retry"
    ));
    Ok(())
}

/// All nodes go and come back, in every order of three, or in some of more.
pub(super) async fn all_in_every_order(stage: &mut Stage<'_>) -> Result<()> {
    let mut order: Vec<u64> = stage.cluster.nodes.keys().copied().collect();
    for round in 0..ORDERS {
        stage
            .history
            .note(format!("all nodes stop and start in the order {order:?}"));
        for node_id in &order {
            stage.cluster.node(*node_id)?.stop(STOP_WITHIN).await?;
        }
        for node_id in &order {
            stage.cluster.node(*node_id)?.start()?;
            sleep(APART).await;
        }
        stage.strike(format!("restart in the order {order:?}"));
        stage.heal(START_WITHIN).await?;
        // Turned by one each time, and turned round half-way: all six of three.
        order.rotate_left(1);
        if round + 1 == ORDERS / 2 {
            order.reverse();
        }
    }
    Ok(())
}

const ORDERS: usize = 6;
/// The first one that is back is alone for a moment.
const APART: Duration = Duration::from_millis(700);

fn refused(stage: &Stage<'_>) -> usize {
    stage
        .history
        .entries()
        .iter()
        .filter(|entry| matches!(entry.what, What::Refused { .. }))
        .count()
}
