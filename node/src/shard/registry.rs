//! The shards that have a replica on this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use parlance_proto::ids::ShardId;

use super::Shard;

/// The shards of this node by id. Cheap to clone.
#[derive(Clone, Default)]
pub struct Shards {
    shards: Arc<RwLock<BTreeMap<ShardId, Arc<Shard>>>>,
}

impl Shards {
    /// One shard, if it has a replica here.
    pub fn get(&self, shard: ShardId) -> Option<Arc<Shard>> {
        self.shards.read().get(&shard).cloned()
    }

    /// All of them, in order.
    pub fn all(&self) -> Vec<Arc<Shard>> {
        self.shards.read().values().cloned().collect()
    }

    /// A replica started.
    pub fn insert(&self, shard: Arc<Shard>) {
        self.shards.write().insert(shard.id(), shard);
    }

    /// A replica left.
    pub fn remove(&self, shard: ShardId) -> Option<Arc<Shard>> {
        self.shards.write().remove(&shard)
    }

    /// All replicas leave.
    pub fn clear(&self) {
        self.shards.write().clear();
    }
}
