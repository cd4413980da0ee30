//! The network between clients and gateways: connections break in the middle of anything, and come back elsewhere.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::time::sleep;

use super::Stage;

const TIMES: usize = 60;
const PAUSE_MS: std::ops::Range<u64> = 20..120;

pub(super) async fn drop_some(stage: &mut Stage<'_>) -> Result<()> {
    for _ in 0..TIMES {
        if let Some(session) = stage.load.sessions.choose(stage.rng) {
            session.reconnect().await;
        }
        sleep(Duration::from_millis(stage.rng.random_range(PAUSE_MS))).await;
    }
    Ok(())
}
