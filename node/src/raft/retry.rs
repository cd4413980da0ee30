//! Work on the disk that may fail for a while: a full disk is emptied, a volume comes back.

use std::io;
use std::time::Duration;

use parlance_proto::ids::ShardId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::metrics;
use crate::store::StoreError;

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What an error says of another try.
pub(super) trait Failure: std::fmt::Display + Send + 'static {
    /// Something is damaged: the next try would find it as it is.
    fn is_damage(&self) -> bool;
}

impl Failure for StoreError {
    fn is_damage(&self) -> bool {
        StoreError::is_damage(self)
    }
}

impl Failure for io::Error {
    fn is_damage(&self) -> bool {
        let inner = self
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<StoreError>());
        inner.is_some_and(StoreError::is_damage)
    }
}

/// Does blocking work again, with a pause that grows, until it succeeds or something is damaged; none if the replica stops
/// first.
pub(super) async fn until_it_works<E: Failure>(
    what: &'static str,
    shard: ShardId,
    stop: &CancellationToken,
    work: impl Fn() -> Result<(), E> + Clone + Send + 'static,
) -> Option<Result<(), E>> {
    let mut pause = BACKOFF_MIN;
    loop {
        let reason = match tokio::task::spawn_blocking(work.clone()).await {
            Ok(Err(e)) if !e.is_damage() => e.to_string(),
            Ok(done) => return Some(done),
            Err(e) => e.to_string(),
        };
        tracing::error!(%shard, what, reason, "failed, and is tried again");
        metrics::disk_failure();
        stop.run_until_cancelled(sleep(pause)).await?;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}
