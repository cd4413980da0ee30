//! Heartbeats of all shards that this node leads, at one time: those for one node share packets, and the library's own
//! timer, which wakes each replica five times a heartbeat, rests.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::RwLock;
use parlance_proto::ids::ShardId;
use tokio::time::{MissedTickBehavior, interval};

use super::replica::Replica;

/// Beats until the replicas are gone.
pub(super) async fn beat(replicas: Weak<RwLock<HashMap<ShardId, Replica>>>, every: Duration) {
    let mut beats = interval(every);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        let Some(replicas) = replicas.upgrade() else {
            return;
        };
        let leading: Vec<Replica> = {
            let replicas = replicas.read();
            let leading = replicas.values().filter(|replica| replica.leads());
            leading.cloned().collect()
        };
        for replica in leading {
            let beat = async move { replica.heartbeat().await };
            // A replica whose queue is full holds up no other.
            let mut beat = Box::pin(beat);
            if (&mut beat).now_or_never().is_none() {
                tokio::spawn(beat);
            }
        }
    }
}
