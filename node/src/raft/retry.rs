//! Work on the disk that may fail for a while: a full disk is emptied, a volume comes back.

use std::time::Duration;

use parlance_proto::ids::ShardId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::metrics;

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Does blocking work again, with a pause that grows, until it succeeds; none if the replica stops first.
pub(super) async fn until_it_works<E>(
    what: &'static str,
    shard: ShardId,
    stop: &CancellationToken,
    work: impl Fn() -> Result<(), E> + Clone + Send + 'static,
) -> Option<()>
where
    E: std::fmt::Display + Send + 'static,
{
    let mut pause = BACKOFF_MIN;
    loop {
        let reason = match tokio::task::spawn_blocking(work.clone()).await {
            Ok(Ok(())) => return Some(()),
            Ok(Err(e)) => e.to_string(),
            Err(e) => e.to_string(),
        };
        tracing::error!(%shard, what, reason, "failed, and is tried again");
        metrics::disk_failure();
        stop.run_until_cancelled(sleep(pause)).await?;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}
