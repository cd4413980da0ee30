//! The meta group: the one Raft group that holds the cluster map and the apps, on every node a replica or a reader.
//!
//! [`MetaMachine`] applies its commands, [`MetaState`] is what everybody on this node watches, [`Leaders`] is who
//! leads which group, as far as this node has heard.

mod apply;
mod leaders;

use std::collections::BTreeMap;
use std::sync::Arc;

use parlance_proto::link::v1 as link;
use parlance_proto::store::v1::{App, ClusterMap, MapNode, MapShard, NodeState};

pub use apply::MetaMachine;
pub use leaders::{Lead, Leaders};

use crate::raft::NodeId;

/// The cluster map and the apps, as the meta group has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetaState {
    /// None before the cluster is made.
    pub map: Option<ClusterMap>,
    /// By id.
    pub apps: BTreeMap<String, App>,
}

impl MetaState {
    /// The number of shards; 0 before the cluster is made.
    pub fn shard_count(&self) -> u32 {
        self.map.as_ref().map_or(0, |map| map.shard_count)
    }

    /// One node of the map, removed ones too.
    pub fn node(&self, id: NodeId) -> Option<&MapNode> {
        self.map
            .as_ref()?
            .nodes
            .iter()
            .find(|node| node.node_id == id)
    }

    /// The nodes that are members.
    pub fn members(&self) -> impl Iterator<Item = &MapNode> {
        self.map
            .iter()
            .flat_map(|map| &map.nodes)
            .filter(|node| node.state() == NodeState::Member)
    }

    /// One shard of the map.
    pub fn shard(&self, shard: u32) -> Option<&MapShard> {
        self.map.as_ref()?.shards.get(usize::try_from(shard).ok()?)
    }

    /// What gateways are to know, with the leaders heard of.
    pub fn for_gateways(&self, leaders: &BTreeMap<u32, Lead>) -> link::ClusterState {
        let app = |app: &App| link::App {
            app_id: app.app_id.clone(),
            disabled: app.disabled,
            secrets: app
                .secrets
                .iter()
                .map(|s| link::AppSecret {
                    secret_id: s.secret_id.clone(),
                    secret: s.secret.clone(),
                })
                .collect(),
        };
        link::ClusterState {
            cluster_id: self
                .map
                .as_ref()
                .map(|map| map.cluster_id.clone())
                .unwrap_or_default(),
            map_version: self.map.as_ref().map_or(0, |map| map.version),
            shard_count: self.shard_count(),
            nodes: self
                .members()
                .map(|node| link::Node {
                    node_id: node.node_id,
                    link_address: node.link_address.clone(),
                })
                .collect(),
            leaders: leaders
                .iter()
                .filter_map(|(group, lead)| {
                    let shard = parlance_proto::shard::group_shard(*group)?;
                    Some(link::ShardLeader {
                        shard,
                        node_id: lead.node.unwrap_or(0),
                        term: lead.term,
                    })
                })
                .collect(),
            apps: self.apps.values().map(app).collect(),
        }
    }
}

/// The shared, watched [`MetaState`].
pub type MetaWatch = tokio::sync::watch::Receiver<Arc<MetaState>>;
