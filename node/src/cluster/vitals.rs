//! What this node has found out about itself: its disk, its databases, its links. `gauges.rs` measures it every second,
//! `announce.rs` tells the other nodes, and `Node::ready` says what of it keeps this node from serving.

use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::raft::v1::{NodeHealth, StoreTrouble};

/// A disk that has not answered for so long is stuck.
pub const DISK_SILENT_MS: u64 = 5_000;

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Vitals(Arc<Mutex<NodeHealth>>);

impl Vitals {
    /// As they were measured last.
    pub fn get(&self) -> NodeHealth {
        self.0.lock().clone()
    }

    pub(super) fn set(&self, health: NodeHealth) {
        *self.0.lock() = health;
    }

    /// What keeps the node from serving as it should, for people.
    pub fn faults(&self) -> Vec<String> {
        let health = self.0.lock();
        let mut faults: Vec<String> = health.stores.iter().map(store_trouble).collect();
        if health.disk_lacking > 0 {
            faults.push(format!("the disk is full, the node {}", takes(&health)));
        }
        if health.disk_silent_ms >= DISK_SILENT_MS {
            faults.push(format!(
                "the disk has not answered for {} s",
                health.disk_silent_ms / 1000
            ));
        }
        faults
    }
}

/// What a node with a full disk still does, for people.
pub fn takes(health: &NodeHealth) -> &'static str {
    if health.disk_lacking > 1 {
        "takes nothing"
    } else {
        "takes nothing new"
    }
}

/// What is wrong with a store, for people.
pub fn store_trouble(of: &StoreTrouble) -> String {
    if of.stopped {
        format!("the {} store takes no writes", of.store)
    } else {
        format!("the disk refused what the {} store wrote", of.store)
    }
}
