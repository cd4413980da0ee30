//! What a running node knows of its cluster: the map, the replicas here, who leads what, and what others said.

use std::sync::Arc;

use parlance_proto::ids::NodeId;

use crate::meta::{Leaders, MetaState, MetaWatch};
use crate::raft::Replica;
use crate::shard::Shards;

use super::agreed_clock::AgreedClock;
use super::heard::HeardNodes;

/// Cheap to clone.
#[derive(Clone)]
pub struct ClusterView {
    /// This node.
    pub node_id: NodeId,
    /// The cluster map and the apps.
    pub meta: MetaWatch,
    /// The meta shard's replica here.
    pub meta_shard: Replica,
    /// The shards with a replica here.
    pub shards: Shards,
    /// Who leads what.
    pub leaders: Leaders,
    /// What nodes say of themselves.
    pub heard: HeardNodes,
    /// What their clocks say.
    pub clock: Arc<AgreedClock>,
}

impl ClusterView {
    /// The cluster map and the apps as they are now.
    pub fn state(&self) -> Arc<MetaState> {
        self.meta.borrow().clone()
    }

    /// All replicas here in the order of their numbers, so the meta shard's first.
    pub fn replicas(&self) -> Vec<Replica> {
        let shards = self.shards.all();
        let shards = shards.iter().map(|shard| shard.raft().clone());
        [self.meta_shard.clone()]
            .into_iter()
            .chain(shards)
            .collect()
    }

    /// The replicas that lead.
    pub fn led(&self) -> Vec<Replica> {
        let mut replicas = self.replicas();
        replicas.retain(|raft| raft.leadership().borrow().leading);
        replicas
    }

    /// Whether a node answers, as far as this one knows.
    pub fn is_reachable(&self, node: NodeId) -> bool {
        node == self.node_id || self.heard.is_heard(node)
    }
}
