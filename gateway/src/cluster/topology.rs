//! The cluster's state, merged from what several nodes tell: nodes, apps and kicks by the map's version, routes by their epoch,
//! and for each shard the leader with the highest term. A hint (`NotLeader`) counts until a newer term is heard of.
//!
//! A node tells everything first and then what has changed. Since all that it told before has been merged here, a change
//! with a version above ours begins at or below what is known: merging by version loses nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::link::v1::{ClusterUpdate, ShardRoute};
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::tls::Serial;

use super::apps::Apps;
use super::slots::{Routes, SlotMap};

/// What this gateway knows of the cluster.
#[derive(Debug, Default)]
pub struct Topology {
    /// Link addresses by node.
    pub nodes: BTreeMap<NodeId, String>,
    /// Link sessions that are up, by node: the number changes with every session that was not resumed.
    pub link_sessions: HashMap<NodeId, u64>,
    /// The feature level that all nodes speak, which only rises.
    pub feature_level: u32,
    /// The apps, and who was thrown out of them.
    pub apps: Apps,
    /// Certificates that nobody believes any more.
    pub denied: BTreeSet<Serial>,
    cluster_id: String,
    map_version: u64,
    routes: Routes,
    leaders: HashMap<ShardId, Leader>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Leader {
    node: Option<NodeId>,
    term: u64,
    hint: Option<NodeId>,
}

/// The node belongs to another cluster.
#[derive(Debug, thiserror::Error)]
#[error("the node belongs to cluster {0:?}, not to ours")]
pub struct OtherCluster(String);

impl Topology {
    /// Takes what is newer; false if nothing was.
    pub fn merge(&mut self, update: ClusterUpdate) -> Result<bool, OtherCluster> {
        if update.cluster_id.is_empty() {
            return Ok(false); // not a member of a cluster yet
        }
        if self.cluster_id.is_empty() {
            self.cluster_id.clone_from(&update.cluster_id);
        } else if self.cluster_id != update.cluster_id {
            return Err(OtherCluster(update.cluster_id));
        }
        self.feature_level = self.feature_level.max(update.feature_level);
        let mut changed = false;
        if update.map_version > self.map_version || self.nodes.is_empty() {
            changed = true;
            self.map_version = update.map_version;
            if update.whole || !update.nodes.is_empty() {
                let nodes = update.nodes.into_iter();
                self.nodes = nodes
                    .filter_map(|n| Some((NodeId::known(n.node_id)?, n.link_address)))
                    .collect();
            }
            if let Some(denied) = update.denied {
                let serials = denied.serials.iter();
                self.denied = serials
                    .filter_map(|serial| Serial::from_bytes(serial).ok())
                    .collect();
            }
            self.apps.merge(update.whole, update.apps, update.kicks);
        }
        changed |= self.add_routes(&update.shards);
        for leader in update.leaders {
            let shard = ShardId(leader.shard);
            if let Some(node) = NodeId::known(leader.node_id) {
                changed |= self.lead(shard, node, leader.term);
            }
        }
        Ok(changed)
    }

    /// Takes the routes that are newer; false if none was.
    pub fn add_routes(&mut self, routes: &[ShardRoute]) -> bool {
        let mut changed = false;
        for route in routes {
            let Some(range) = SlotRange::new(route.first_slot, route.last_slot) else {
                continue;
            };
            let shard = ShardId(route.shard);
            let parent = self.shard_of(range.first());
            if !self.routes.add(shard, range, route.epoch) {
                continue;
            }
            changed = true;
            // A child begins on its parent's nodes, and the parent's leader makes it elect.
            let hint = parent.and_then(|parent| self.leader(parent));
            let leader = self.leaders.entry(shard).or_default();
            if leader.node.is_none() && leader.hint.is_none() {
                leader.hint = hint;
            }
        }
        if changed {
            self.routes.rebuild();
        }
        changed
    }

    /// A leader was heard of; true if that is news.
    pub fn lead(&mut self, shard: ShardId, node: NodeId, term: u64) -> bool {
        let known = self.leaders.entry(shard).or_default();
        if term < known.term || (term == known.term && known.node.is_some()) {
            return false;
        }
        *known = Leader {
            node: Some(node),
            term,
            hint: None,
        };
        true
    }

    /// Node `asked` said that it does not lead, but `leader`; true if that changes the node to ask. Hints have no term: a
    /// late one, of a node that is not asked any more, says nothing, and one to a node without a link leads nowhere.
    pub fn hint(&mut self, shard: ShardId, asked: NodeId, leader: Option<NodeId>) -> bool {
        if self.leader(shard) != Some(asked) {
            return false;
        }
        let leader = leader.filter(|l| *l != asked && self.link_sessions.contains_key(l));
        if let Some(known) = self.leaders.get_mut(&shard) {
            known.hint = leader.filter(|leader| known.node != Some(*leader));
        }
        self.leader(shard) != Some(asked)
    }

    /// The link to a node is lost, and hints to it with it; false if there was none.
    pub fn unlink(&mut self, node: NodeId) -> bool {
        for leader in self.leaders.values_mut() {
            leader.hint = leader.hint.filter(|hint| *hint != node);
        }
        self.link_sessions.remove(&node).is_some()
    }

    /// Whether a node has told the cluster's state.
    pub fn is_known(&self) -> bool {
        self.routes.shards().next().is_some()
    }

    /// The shard that owns a slot.
    pub fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        self.routes.map().shard_of(slot)
    }

    /// Which shard owns which slot.
    pub fn slots(&self) -> &SlotMap {
        self.routes.map()
    }

    /// All shards, ascending.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.routes.shards()
    }

    /// The node to ask.
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        let known = self.leaders.get(&shard)?;
        known.hint.or(known.node)
    }

    /// The newest term heard of.
    pub fn term(&self, shard: ShardId) -> u64 {
        self.leaders.get(&shard).map_or(0, |l| l.term)
    }
}

#[cfg(test)]
mod tests;
