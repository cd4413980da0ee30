//! Home shards that take nothing: no leader, no majority, or too slow. What is for them waits here, one queue a home, and is
//! tried again together, ever more seldom, until all of it is gone; what does not fit is set aside. Other homes do not notice:
//! what waits here takes no room of its shard's share.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use tokio::sync::watch;

use super::relay_sender::Queued;
use crate::metrics;

/// What one home may have waiting in memory, soft.
const HOME_MAX: Size = Size {
    items: 1024,
    bytes: 256 * 1024,
};
/// What all homes together may. The first item of a home waits whatever others have: by it the home is tried.
const ALL_MAX: Size = Size {
    items: 64 * 1024,
    bytes: 32 << 20,
};

/// All homes that take nothing at the moment.
#[derive(Default)]
pub(super) struct Parked {
    homes: Mutex<Homes>,
    /// Rises when a home takes something again.
    freed: watch::Sender<u64>,
}

#[derive(Default)]
struct Homes {
    by_id: HashMap<ShardId, Home>,
    size: Size,
}

#[derive(Default)]
struct Home {
    waiting: VecDeque<Queued>,
    /// Of what waits or is tried again.
    size: Size,
    /// Something was set aside: all that follows is too, so that it keeps its order.
    full: bool,
    /// Who leads it, as the last one asked said.
    hint: Option<NodeId>,
}

/// So many items, of so many bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    items: usize,
    bytes: usize,
}

/// What is tried again for a home.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) queued: Vec<Queued>,
    /// Counts as waiting until what is left of it is put back.
    pub(super) size: Size,
    pub(super) hint: Option<NodeId>,
}

impl Size {
    fn of(queued: &Queued) -> Self {
        Self {
            items: 1,
            bytes: queued.item.len(),
        }
    }

    fn add(&mut self, more: Self) {
        self.items += more.items;
        self.bytes += more.bytes;
    }

    fn sub(&mut self, less: Self) {
        self.items -= less.items;
        self.bytes -= less.bytes;
    }

    fn is_below(self, max: Self) -> bool {
        self.items < max.items && self.bytes < max.bytes
    }
}

impl Parked {
    /// Told when a home takes something again.
    pub(super) fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }

    pub(super) fn is_parked(&self, home: ShardId) -> bool {
        self.homes.lock().by_id.contains_key(&home)
    }

    /// Queues what is for a home behind what waits; answers whether nothing did, so that somebody has to try again.
    pub(super) fn park(&self, home: ShardId, items: Vec<Queued>, hint: Option<NodeId>) -> bool {
        let mut homes = self.homes.lock();
        let Homes { by_id, size } = &mut *homes;
        let begins = !by_id.contains_key(&home);
        let parked = by_id.entry(home).or_default();
        parked.hint = hint.or(parked.hint);
        for mut queued in items {
            let room = parked.size.is_below(HOME_MAX) && size.is_below(ALL_MAX);
            if !parked.full && (room || parked.size.items == 0) {
                queued.delivery.waits();
                parked.size.add(Size::of(&queued));
                size.add(Size::of(&queued));
                parked.waiting.push_back(queued);
            } else {
                parked.full = true;
                metrics::relay_set_aside();
                queued.delivery.set_aside(home, queued.slot);
            }
        }
        metrics::homes_parked(by_id.len());
        begins
    }

    /// Takes from the front what is still wanted, at most `max`, with a hint at who leads the home.
    pub(super) fn take(&self, home: ShardId, max: usize) -> Taken {
        let mut homes = self.homes.lock();
        let Homes { by_id, size } = &mut *homes;
        let mut taken = Taken::default();
        let Some(parked) = by_id.get_mut(&home) else {
            return taken;
        };
        while taken.queued.len() < max
            && let Some(queued) = parked.waiting.pop_front()
        {
            if queued.delivery.is_wanted() {
                taken.size.add(Size::of(&queued));
                taken.queued.push(queued);
            } else {
                parked.size.sub(Size::of(&queued));
                size.sub(Size::of(&queued));
            }
        }
        taken.hint = parked.hint.take();
        taken
    }

    /// What was taken, of this size, has been tried: what is left of it comes back to the front.
    pub(super) fn put_back(
        &self,
        home: ShardId,
        taken: Size,
        left: Vec<Queued>,
        hint: Option<NodeId>,
    ) {
        let mut homes = self.homes.lock();
        let Homes { by_id, size } = &mut *homes;
        let parked = by_id.entry(home).or_default();
        parked.hint = hint;
        parked.size.sub(taken);
        size.sub(taken);
        for queued in left.into_iter().rev() {
            parked.size.add(Size::of(&queued));
            size.add(Size::of(&queued));
            parked.waiting.push_front(queued);
        }
    }

    /// A home takes what it is given: unless something waits, it is parked no more. Answers whether that is so.
    pub(super) fn free(&self, home: ShardId) -> bool {
        let mut homes = self.homes.lock();
        let by_id = &mut homes.by_id;
        if by_id
            .get(&home)
            .is_some_and(|home| !home.waiting.is_empty())
        {
            return false;
        }
        by_id.remove(&home);
        metrics::homes_parked(by_id.len());
        drop(homes);
        self.freed.send_modify(|times| *times += 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use parlance_proto::slot::Slot;
    use parlance_proto::store::v1::Consumer;

    use super::super::under_way::UnderWay;
    use super::*;

    const HOMES: u32 = 512;

    #[test]
    fn all_homes_that_are_stuck_have_no_more_together_and_each_has_something() {
        let parked = Parked::default();
        let under_way = UnderWay::new(Consumer::Relay, 0, Arc::default(), &Arc::default());
        let item = Bytes::from(vec![0; 32 * 1024]);
        let queued = |_| Queued {
            slot: Slot::FIRST,
            item: item.clone(),
            delivery: under_way.begin(1, item.len()).remove(0),
        };
        for home in 1..=HOMES {
            parked.park(ShardId(home), (0..20).map(queued).collect(), None);
        }
        let all = |parked: &Parked| parked.homes.lock().size.bytes;
        let firsts = HOMES as usize * item.len();
        assert!((ALL_MAX.bytes..=ALL_MAX.bytes + firsts).contains(&all(&parked)));
        for home in (1..=HOMES).map(ShardId) {
            let taken = parked.take(home, usize::MAX);
            assert!(!taken.queued.is_empty(), "nothing to try {home:?} by");
            let before = all(&parked);
            parked.put_back(home, taken.size, taken.queued, None);
            assert_eq!(all(&parked), before);
            let taken = parked.take(home, usize::MAX);
            parked.put_back(home, taken.size, Vec::new(), None);
            assert!(parked.free(home));
        }
        assert_eq!(all(&parked), 0);
    }
}
