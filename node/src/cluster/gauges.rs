//! The metrics of this node's replicas, brought up to date every second.

use tokio::time::{Duration, sleep};

use super::tasks::Tasks;
use super::view::ClusterView;
use crate::metrics;

const INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(view: ClusterView, tasks: Tasks) {
    let node = view.node_id.to_string();
    while tasks.or_stopped(sleep(INTERVAL)).await.is_some() {
        for shard in view.shards.all() {
            let status = shard.raft().status();
            metrics::shard(
                &node,
                &shard.id().to_string(),
                shard.is_led_here(),
                status.term,
                status.applied,
            );
        }
    }
}
