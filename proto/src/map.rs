//! The cluster map's numbers as what they are.

use crate::ids::{NodeId, ShardId};
use crate::slot::SlotRange;
use crate::store::v1::{MapNode, MapShard};

impl MapNode {
    /// Its id.
    pub fn id(&self) -> NodeId {
        NodeId(self.node_id)
    }
}

impl MapShard {
    /// Its id.
    pub fn id(&self) -> ShardId {
        ShardId(self.shard)
    }

    /// The shard that it is split from; none if it was there from the beginning.
    pub fn parent_id(&self) -> Option<ShardId> {
        (self.parent != 0).then_some(ShardId(self.parent))
    }

    /// The voters that it should have, the preferred leader first.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.iter().copied().map(NodeId)
    }

    /// Whether a node should have a replica.
    pub fn is_on(&self, node: NodeId) -> bool {
        self.replicas.contains(&node.0)
    }

    /// Its slots; none if the map is damaged.
    pub fn range(&self) -> Option<SlotRange> {
        SlotRange::new(self.first_slot, self.last_slot)
    }
}
