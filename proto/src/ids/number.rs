//! Ids that are numbers.

use std::fmt;

/// A shard: 0 is the meta shard, the shards of the key space count from 1. An id is never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardId(pub u32);

impl ShardId {
    /// Holds the cluster map and the apps.
    pub const META: Self = Self(0);
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A node, as in its configuration and its certificate. Above 0.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl NodeId {
    /// A node id of a message, where 0 means none.
    pub fn known(id: u64) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// The other way: 0 for none.
    pub fn or_zero(id: Option<Self>) -> u64 {
        id.map_or(0, |id| id.0)
    }
}

/// For the Raft library's own tests of a store; elsewhere, name the type.
impl From<u64> for NodeId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
