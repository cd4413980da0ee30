//! The cluster map, the apps and the kicks, as everybody on this node reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::store::v1::{App, ClusterMap, Kick, MapNode, MapShard, NodeState};
use parlance_proto::tls::Serial;

/// The shared, watched [`MetaState`].
pub type MetaWatch = tokio::sync::watch::Receiver<Arc<MetaState>>;

/// The newest kick of each user, by app and user.
pub type Kicks = BTreeMap<(String, String), Kick>;

/// The slots that a shard owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Which shard.
    pub shard: ShardId,
    /// Its slots.
    pub range: SlotRange,
    /// Rises with each change of the range.
    pub epoch: u64,
}

/// The cluster map, the apps and the kicks, as the meta shard has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetaState {
    map: Option<ClusterMap>,
    apps: BTreeMap<String, App>,
    kicks: Arc<Kicks>,
    /// Of the map's shards that own slots, by slot.
    routes: Vec<Route>,
}

impl MetaState {
    /// Puts the parts together.
    pub fn new(map: Option<ClusterMap>, apps: BTreeMap<String, App>) -> Self {
        let mut routes: Vec<Route> = map
            .iter()
            .flat_map(|map| &map.shards)
            .filter_map(route)
            .collect();
        routes.sort_unstable_by_key(|route| route.range.first());
        Self {
            map,
            apps,
            kicks: Arc::default(),
            routes,
        }
    }

    /// With the kicks.
    pub fn with_kicks(self, kicks: Arc<Kicks>) -> Self {
        Self { kicks, ..self }
    }

    /// The map; none before the cluster is made.
    pub fn map(&self) -> Option<&ClusterMap> {
        self.map.as_ref()
    }

    /// The map's version; 0 before the cluster is made.
    pub fn version(&self) -> u64 {
        self.map().map_or(0, |map| map.version)
    }

    /// By id.
    pub fn apps(&self) -> &BTreeMap<String, App> {
        &self.apps
    }

    /// The newest kick of each user.
    pub fn kicks(&self) -> &Arc<Kicks> {
        &self.kicks
    }

    /// One node of the map, removed ones too.
    pub fn node(&self, id: NodeId) -> Option<&MapNode> {
        self.map()?.nodes.iter().find(|node| node.id() == id)
    }

    /// Whether a node is in the cluster now.
    pub fn is_member(&self, id: NodeId) -> bool {
        self.node(id)
            .is_some_and(|node| node.state() == NodeState::Member)
    }

    /// Whether a node was replaced by another.
    pub fn is_replaced(&self, old: NodeId, new: NodeId) -> bool {
        self.node(old).is_some_and(|node| node.replaced_by == new.0)
    }

    /// The nodes that are in the cluster now.
    pub fn members(&self) -> impl Iterator<Item = &MapNode> {
        self.map()
            .into_iter()
            .flat_map(|map| &map.nodes)
            .filter(|node| node.state() == NodeState::Member)
    }

    /// All shards, those that are being split off too.
    pub fn shards(&self) -> &[MapShard] {
        self.map().map_or(&[], |map| &map.shards)
    }

    /// One shard of the map.
    pub fn shard(&self, shard: ShardId) -> Option<&MapShard> {
        self.shards().iter().find(|found| found.id() == shard)
    }

    /// The certificates that nobody believes any more.
    pub fn denied(&self) -> BTreeSet<Serial> {
        let denied = self.map().map_or(&[][..], |map| &map.denied_certificates);
        denied
            .iter()
            .filter_map(|denied| Serial::from_bytes(&denied.serial).ok())
            .collect()
    }

    /// The shards that own slots, by slot.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The shard that owns a slot; none before the cluster is made.
    pub fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        let behind = self
            .routes
            .partition_point(|route| route.range.first() <= slot);
        let route = self.routes.get(behind.checked_sub(1)?)?;
        route.range.contains(slot).then_some(route.shard)
    }

    /// What a shard owned when the cluster was made, before any split: what its replicas begin with. None for a child.
    pub fn founding_range(&self, shard: ShardId) -> Option<SlotRange> {
        let mut founding = self.shards().iter().filter(|shard| shard.parent == 0);
        let place = founding.clone().position(|found| found.id() == shard)?;
        let count = u16::try_from(founding.by_ref().count()).ok()?;
        SlotRange::divide(count).nth(place)
    }
}

fn route(shard: &MapShard) -> Option<Route> {
    let range = shard.range()?;
    (!shard.pending).then_some(Route {
        shard: shard.id(),
        range,
        epoch: shard.epoch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(shard: u32, first_slot: u32, last_slot: u32, parent: u32) -> MapShard {
        MapShard {
            shard,
            first_slot,
            last_slot,
            parent,
            epoch: 1,
            ..MapShard::default()
        }
    }

    #[test]
    fn a_slot_has_the_shard_that_owns_it_and_a_pending_child_owns_nothing() {
        let pending = MapShard {
            pending: true,
            ..shard(4, 10_000, 16_383, 2)
        };
        let map = ClusterMap {
            shards: vec![
                shard(1, 0, 4_999, 0),
                shard(2, 8_192, 16_383, 0),
                shard(3, 5_000, 8_191, 1),
                pending,
            ],
            ..ClusterMap::default()
        };
        let state = MetaState::new(Some(map), BTreeMap::new());
        let of = |slot| state.shard_of(Slot::new(slot).unwrap());
        assert_eq!(
            [0, 4_999, 5_000, 8_191, 8_192, 16_383].map(of),
            [1, 1, 3, 3, 2, 2].map(|shard| Some(ShardId(shard)))
        );
        assert_eq!(MetaState::default().shard_of(Slot::FIRST), None);
        assert_eq!(
            state.founding_range(ShardId(1)),
            SlotRange::new(0, 8_191),
            "what it owned before it was split"
        );
        assert_eq!(
            state.founding_range(ShardId(2)),
            SlotRange::new(8_192, 16_383)
        );
        assert_eq!(state.founding_range(ShardId(3)), None);
    }
}
