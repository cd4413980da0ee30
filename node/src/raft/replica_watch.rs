//! Follows one replica for as long as it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use parlance_proto::ids::{NodeId, ShardId};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::replica::{Inner, Leadership, Replica};
use super::state_machine::SnapshotByBytes;
use super::types::TypeConfig;

/// Between looks at followers that are fed by snapshot.
const FEED_REVIEW: Duration = Duration::from_millis(500);

/// Follows one replica: publishes its leader, starts elections in its turn, makes snapshots by size, and looks after followers
/// that are fed. Says in `stopped` why the replica has stopped by itself, if it has.
pub(super) async fn watch_replica(
    inner: Arc<Inner>,
    by_bytes: Arc<SnapshotByBytes>,
    ended: CancellationToken,
    stopped: watch::Sender<BTreeMap<ShardId, String>>,
) {
    let mut metrics = inner.raft.server_metrics();
    let mut led = false;
    loop {
        inner.publish(&metrics.borrow_watched());
        let leads = metrics.borrow_watched().state == ServerState::Leader;
        if std::mem::replace(&mut led, leads) && !leads {
            inner.turns.led(inner.node_id, Instant::now());
        }
        let turn = inner.turn(&metrics.borrow_watched());
        let feeds = !inner.feed.feeds_nobody();
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { break },
            () = inner.feed.rows.damaged() => break,
            () = by_bytes.due.notified() => {
                let _ = inner.raft.trigger().snapshot().await;
            }
            () = inner.feed.begun.notified() => {}
            () = tokio::time::sleep_until(turn.unwrap_or_else(Instant::now)), if turn.is_some() => {
                // The leader may have been heard meanwhile.
                if turn == inner.turn(&metrics.borrow_watched()) {
                    let voters = voters(&metrics.borrow_watched()).len();
                    inner.turns.took(u32::try_from(voters).unwrap_or(1), Instant::now());
                    let _ = inner.raft.trigger().elect(true).await;
                }
            }
            () = tokio::time::sleep(FEED_REVIEW), if feeds => {
                let status = Replica { inner: inner.clone() }.status();
                if inner.feed.review(&status.matched, status.last_log_index, Instant::now()) {
                    let _ = inner.raft.trigger().snapshot().await;
                }
            }
            () = inner.stop.cancelled() => break,
            // A bug, of which the library's own task hears nothing: it would go on leading.
            () = ended.cancelled() => break,
        }
    }
    inner.leadership.send_modify(|last| {
        *last = Leadership {
            term: last.term,
            leader: None,
            leading: false,
        }
    });
    if !inner.stop.is_cancelled() {
        let reason = Replica {
            inner: inner.clone(),
        }
        .status()
        .stopped;
        let reason = reason.unwrap_or_else(|| "its task ended".to_owned());
        tracing::error!(shard = %inner.id, reason, "a replica has stopped by itself");
        inner.stop.cancel();
        stopped.send_modify(|stopped| {
            stopped.insert(inner.id, reason);
        });
        // Perhaps its tasks never end: they are waited for last.
        if let Err(error) = inner.raft.shutdown().await {
            tracing::debug!(shard = %inner.id, %error, "the tasks of a stopped replica");
        }
    }
}

fn voters(metrics: &RaftServerMetrics<TypeConfig>) -> BTreeSet<NodeId> {
    let membership = metrics.membership_config.membership();
    membership.voter_ids().collect()
}

impl Inner {
    /// When to stand for election if no leader is heard before.
    fn turn(&self, metrics: &RaftServerMetrics<TypeConfig>) -> Option<Instant> {
        if metrics.state == ServerState::Leader {
            return None;
        }
        self.turns.next(self.id, self.node_id, &voters(metrics))
    }

    fn publish(&self, metrics: &RaftServerMetrics<TypeConfig>) {
        let leading =
            metrics.state == ServerState::Leader && metrics.current_leader == Some(self.node_id);
        let now = Leadership {
            term: metrics.vote.leader_id.term,
            leader: metrics.current_leader,
            leading,
        };
        self.leadership.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}
