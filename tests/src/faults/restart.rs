//! An upgrade: one process after the other is asked to stop, and started again. Nobody who chats may notice.

use anyhow::{Result, bail};

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

fn refused(stage: &Stage<'_>) -> usize {
    stage
        .history
        .entries()
        .iter()
        .filter(|entry| matches!(entry.what, What::Refused { .. }))
        .count()
}
