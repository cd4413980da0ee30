//! Draining a node.

use parlance_proto::admin::v1::DrainNodeRequest;
use tokio::time::Duration;

use crate::cluster::Runtime;

/// How long a drain may take when the operator does not say.
const DRAIN_TIMEOUT_MS: u32 = 10_000;

/// Hands over what this node leads; answers how many leaderships are left.
pub(super) async fn drain(runtime: &Runtime, ask: &DrainNodeRequest) -> u32 {
    let within = if ask.timeout_ms == 0 {
        DRAIN_TIMEOUT_MS
    } else {
        ask.timeout_ms
    };
    let left = runtime
        .hand_over(Duration::from_millis(within.into()))
        .await;
    u32::try_from(left).unwrap_or(u32::MAX)
}
