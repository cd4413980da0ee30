//! Forgets now and then what gateways that are gone had subscribed to: of users who never come back, nobody else would.

use tokio::time::{Duration, sleep};

use super::tasks::Tasks;
use super::view::ClusterView;

const INTERVAL: Duration = Duration::from_secs(30);

pub(super) async fn run(view: ClusterView, tasks: Tasks) {
    while tasks.or_stopped(sleep(INTERVAL)).await.is_some() {
        for shard in view.shards.all() {
            shard.subscriptions().forget_closed();
        }
    }
}
