//! The cluster's state for gateways: the whole of it at once, and again after changes.

use parlance_proto::link::v1::ClusterState;
use tokio::time::{Duration, sleep};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

use crate::meta::{Leaders, MetaWatch};

/// Changes that come together (a node fails: a third of the shards get new leaders) go out together.
const GATHER: Duration = Duration::from_millis(10);

pub(super) fn watch_cluster(
    mut meta: MetaWatch,
    leaders: Leaders,
    stop: CancellationToken,
) -> impl Stream<Item = ClusterState> + Send {
    let mut table = leaders.watch();
    meta.mark_changed();
    futures::stream::unfold(
        (meta, table.clone(), stop),
        move |(mut meta, mut seen, stop)| {
            table.mark_unchanged();
            async move {
                let changed = async {
                    tokio::select! {
                        meta = meta.changed() => meta.is_ok(),
                        leaders = seen.changed() => leaders.is_ok(),
                    }
                };
                if stop.run_until_cancelled(changed).await != Some(true) {
                    return None;
                }
                sleep(GATHER).await;
                let leaders = seen.borrow_and_update().clone();
                let state = meta.borrow_and_update().for_gateways(&leaders);
                Some((state, (meta, seen, stop)))
            }
        },
    )
}
