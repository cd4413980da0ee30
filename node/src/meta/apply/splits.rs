//! A shard is split in two steps: a child gets its id, and once the parent's log has the split, its slots.

use parlance_proto::limits::SHARD_COUNT_MAX;
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::store::v1::{ClusterMap, MapShard, meta_refusal::Reason};

use super::{Change, refusal};

/// The same again answers the same child: the map has it.
pub(super) fn begin(map: &mut ClusterMap, parent: u32, first_slot: u32) -> Change {
    let Some(found) = map.shards.iter().find(|s| s.shard == parent) else {
        return Err(refusal(
            Reason::NotFound,
            format!("there is no shard {parent}"),
        ));
    };
    let mut children = map.shards.iter().filter(|child| child.parent == parent);
    if children.clone().any(|child| child.first_slot == first_slot) {
        return Ok(false);
    }
    if let Some(child) = children.find(|child| child.pending) {
        let message = format!(
            "shard {parent} is being split at slot {}: wait until that is done",
            child.first_slot
        );
        return Err(refusal(Reason::Forbidden, message));
    }
    if found.pending {
        let message = format!(
            "shard {parent} is itself being split off shard {}",
            found.parent
        );
        return Err(refusal(Reason::Forbidden, message));
    }
    let cut = SlotRange::new(found.first_slot, found.last_slot)
        .zip(Slot::new(first_slot))
        .and_then(|(range, slot)| range.split_at(slot));
    if cut.is_none() {
        let message = format!(
            "shard {parent} owns slots {} to {} and cannot be split at {first_slot}",
            found.first_slot, found.last_slot
        );
        return Err(refusal(Reason::Forbidden, message));
    }
    let last_id = map.shards.iter().map(|shard| shard.shard).max();
    let id = last_id.unwrap_or(0) + 1;
    if id > SHARD_COUNT_MAX {
        let message = format!("a cluster has at most {SHARD_COUNT_MAX} shards");
        return Err(refusal(Reason::Forbidden, message));
    }
    let child = MapShard {
        shard: id,
        replicas: spread(map, &found.replicas),
        founder: 0,
        first_slot,
        last_slot: found.last_slot,
        epoch: found.epoch + 1,
        parent,
        pending: true,
    };
    map.shards.push(child);
    Ok(true)
}

/// The same replicas; first, and so the preferred leader, the one that is it of the fewest shards.
fn spread(map: &ClusterMap, replicas: &[u64]) -> Vec<u64> {
    let leads = |id: &u64| {
        map.shards
            .iter()
            .filter(|shard| shard.replicas.first() == Some(id))
            .count()
    };
    let first = replicas.iter().min_by_key(|id| leads(id)).copied();
    let others = replicas.iter().copied().filter(|id| Some(*id) != first);
    first.into_iter().chain(others).collect()
}

pub(super) fn finish(map: &mut ClusterMap, parent: u32, child: u32, epoch: u64) -> Change {
    let place = |shard: u32| map.shards.iter().position(|s| s.shard == shard);
    let places = place(child).zip(place(parent));
    let Some((begun, at_parent)) =
        places.and_then(|(at, of)| Some((map.shards.get(at)?.clone(), of)))
    else {
        let message = format!("shard {parent} or shard {child} is unknown");
        return Err(refusal(Reason::NotFound, message));
    };
    if begun.parent != parent || begun.epoch < epoch || (begun.pending && begun.epoch != epoch) {
        let message = format!("shard {child} is not split off shard {parent} with epoch {epoch}");
        return Err(refusal(Reason::Forbidden, message));
    }
    if !begun.pending {
        return Ok(false);
    }
    if let Some(owner) = map.shards.get_mut(at_parent) {
        owner.last_slot = begun.first_slot.saturating_sub(1);
        owner.epoch = epoch;
    }
    for finished in map.shards.iter_mut().filter(|s| s.shard == child) {
        finished.pending = false;
    }
    Ok(true)
}
