//! Which shard owns a slot. Routes come from the cluster's state and from shards that have been split: of two for a slot
//! the one with the higher epoch counts, in whatever order they come.

use std::collections::BTreeMap;
use std::sync::Arc;

use parlance_proto::ids::ShardId;
use parlance_proto::slot::{SLOTS, Slot, SlotRange};

/// The owner of each slot. Clones share memory; what a clone says does not change.
#[derive(Debug, Clone, Default)]
pub struct SlotMap(Option<Arc<[Option<ShardId>]>>);

impl SlotMap {
    /// The shard that owns a slot, as far as is known.
    pub fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        *self.0.as_ref()?.get(usize::from(slot.number()))?
    }

    /// Whether both are clones of one map.
    pub fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

/// The newest route of each shard.
#[derive(Debug, Default)]
pub struct Routes {
    by_shard: BTreeMap<ShardId, (SlotRange, u64)>,
    map: SlotMap,
}

impl Routes {
    /// Takes a route; true if it is newer than what was known of its shard.
    pub fn add(&mut self, shard: ShardId, range: SlotRange, epoch: u64) -> bool {
        let known = self.by_shard.get(&shard);
        if known.is_some_and(|(_, known)| *known >= epoch) {
            return false;
        }
        self.by_shard.insert(shard, (range, epoch));
        true
    }

    /// Makes the map anew, after routes were added.
    pub fn rebuild(&mut self) {
        let mut routes: Vec<_> = self.by_shard.iter().collect();
        // A child's epoch is above that of its parent's route before the split.
        routes.sort_by_key(|(_, (_, epoch))| *epoch);
        let mut owners = vec![None; usize::from(SLOTS)];
        for (shard, (range, _)) in routes {
            let slots = usize::from(range.first().number())..=usize::from(range.last().number());
            owners[slots].fill(Some(*shard));
        }
        self.map = SlotMap(Some(owners.into()));
    }

    /// Who owns what.
    pub fn map(&self) -> &SlotMap {
        &self.map
    }

    /// All shards, ascending.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.by_shard.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_routes_for_a_slot_the_higher_epoch_counts_in_any_order() {
        let range = |first, last| SlotRange::new(first, last).unwrap();
        let whole = (ShardId(1), range(0, 16_383), 1);
        let parent = (ShardId(1), range(0, 99), 2);
        let child = (ShardId(2), range(100, 16_383), 2);
        for order in [
            [whole, parent, child],
            [child, whole, parent],
            [child, parent, whole],
        ] {
            let mut routes = Routes::default();
            for (shard, range, epoch) in order {
                routes.add(shard, range, epoch);
                routes.rebuild();
            }
            let owner = |slot| routes.map().shard_of(Slot::new(slot).unwrap());
            assert_eq!(
                (owner(99), owner(100)),
                (Some(ShardId(1)), Some(ShardId(2)))
            );
        }
        // A child that is heard of before its parent's new range takes its slots all the same.
        let mut routes = Routes::default();
        routes.add(whole.0, whole.1, whole.2);
        assert!(routes.add(child.0, child.1, child.2));
        assert!(!routes.add(child.0, child.1, child.2), "no news");
        routes.rebuild();
        let owner = |slot| routes.map().shard_of(Slot::new(slot).unwrap());
        assert_eq!(
            (owner(99), owner(100)),
            (Some(ShardId(1)), Some(ShardId(2)))
        );
    }
}
