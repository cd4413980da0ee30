//! Where the nodes of the cluster are: by the cluster map, and until it is there by what came with the invitation.

use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::ids::NodeId;
use parlance_proto::store::v1::{ClusterMap, MapNode};
use tokio::sync::watch;

use crate::meta::MetaState;
use crate::raft::Directory;

/// The nodes that this node knows of.
pub struct Nodes {
    meta: watch::Receiver<Arc<MetaState>>,
    suggested: Mutex<ClusterMap>,
}

impl Nodes {
    /// Follows the meta shard's state.
    pub fn new(meta: watch::Receiver<Arc<MetaState>>) -> Self {
        Self {
            meta,
            suggested: Mutex::default(),
        }
    }

    /// Nodes that the cluster map may not have yet.
    pub fn suggest(&self, map: &ClusterMap) {
        *self.suggested.lock() = map.clone();
    }

    fn find<T>(&self, id: NodeId, of: impl Fn(&MapNode) -> T) -> Option<T> {
        let mapped = self.meta.borrow().node(id).map(&of);
        mapped.or_else(|| {
            let suggested = self.suggested.lock();
            suggested.nodes.iter().find(|node| node.id() == id).map(of)
        })
    }
}

impl Directory for Nodes {
    fn address(&self, node: NodeId) -> Option<String> {
        self.find(node, |node| node.raft_address.clone())
    }

    fn store_id(&self, node: NodeId) -> Option<String> {
        self.find(node, |node| node.store_id.clone())
    }
}
