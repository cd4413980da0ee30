//! A leader that is stopped, is replaced, and comes back thinking that it still leads.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use tokio::time::sleep;

use super::Stage;
use crate::cluster::START_WITHIN;

const TIMES: usize = 2;
/// Well above the longest election time-out (0.7 s) and the leader's lease.
const FROZEN_MS: std::ops::Range<u64> = 2500..4000;

pub(super) async fn leader(stage: &mut Stage<'_>) -> Result<()> {
    for _ in 0..TIMES {
        let node_id = stage.cluster.busiest_leader().await?;
        stage.history.note(format!("node {node_id} is frozen"));
        stage.cluster.node(node_id)?.freeze()?;
        sleep(Duration::from_millis(stage.rng.random_range(FROZEN_MS))).await;
        stage.history.note(format!("node {node_id} goes on"));
        stage.cluster.node(node_id)?.thaw()?;
        stage.cluster.wait_node_ready(node_id, START_WITHIN).await?;
        stage.cluster.wait_healthy(START_WITHIN).await?;
    }
    Ok(())
}
