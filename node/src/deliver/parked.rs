//! Home shards that take nothing: no leader, no majority, or too slow. What is for them waits here, one queue a home, and is
//! tried again together, ever more seldom, until all of it is gone; what does not fit is set aside. Other homes do not notice.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use tokio::sync::watch;

use super::relay_sender::Queued;
use crate::metrics;

/// Items of one home that wait in memory.
const HOME_ITEMS_MAX: usize = 1024;
/// Their bytes, soft.
const HOME_BYTES_MAX: usize = 256 * 1024;

/// All homes that take nothing at the moment.
#[derive(Default)]
pub(super) struct Parked {
    homes: Mutex<HashMap<ShardId, Home>>,
    /// Rises when a home takes something again.
    freed: watch::Sender<u64>,
}

#[derive(Default)]
struct Home {
    waiting: VecDeque<Queued>,
    bytes: usize,
    /// Something was set aside: all that follows is too, so that it keeps its order.
    full: bool,
    /// Who leads it, as the last one asked said.
    hint: Option<NodeId>,
}

impl Parked {
    /// Told when a home takes something again.
    pub(super) fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }

    pub(super) fn is_parked(&self, home: ShardId) -> bool {
        self.homes.lock().contains_key(&home)
    }

    /// Queues what is for a home behind what waits; answers whether nothing did, so that somebody has to try again.
    pub(super) fn park(&self, home: ShardId, items: Vec<Queued>, hint: Option<NodeId>) -> bool {
        let mut homes = self.homes.lock();
        let begins = !homes.contains_key(&home);
        let parked = homes.entry(home).or_default();
        parked.hint = hint.or(parked.hint);
        for queued in items {
            let fits = parked.waiting.len() < HOME_ITEMS_MAX && parked.bytes < HOME_BYTES_MAX;
            if fits && !parked.full {
                parked.bytes += queued.item.len();
                parked.waiting.push_back(queued);
            } else {
                parked.full = true;
                metrics::relay_set_aside();
                queued.delivery.set_aside(home, queued.slot);
            }
        }
        metrics::homes_parked(homes.len());
        begins
    }

    /// Takes from the front what is still wanted, at most `max`, with a hint at who leads the home.
    pub(super) fn take(&self, home: ShardId, max: usize) -> (Vec<Queued>, Option<NodeId>) {
        let mut homes = self.homes.lock();
        let Some(parked) = homes.get_mut(&home) else {
            return (Vec::new(), None);
        };
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(queued) = parked.waiting.pop_front()
        {
            parked.bytes -= queued.item.len();
            if queued.delivery.is_wanted() {
                taken.push(queued);
            }
        }
        (taken, parked.hint.take())
    }

    /// Puts back to the front what was taken and is not done.
    pub(super) fn put_back(&self, home: ShardId, items: Vec<Queued>, hint: Option<NodeId>) {
        let mut homes = self.homes.lock();
        let parked = homes.entry(home).or_default();
        parked.hint = hint;
        for queued in items.into_iter().rev() {
            parked.bytes += queued.item.len();
            parked.waiting.push_front(queued);
        }
    }

    /// A home takes what it is given: unless something waits, it is parked no more. Answers whether that is so.
    pub(super) fn free(&self, home: ShardId) -> bool {
        let mut homes = self.homes.lock();
        if homes
            .get(&home)
            .is_some_and(|home| !home.waiting.is_empty())
        {
            return false;
        }
        homes.remove(&home);
        metrics::homes_parked(homes.len());
        drop(homes);
        self.freed.send_modify(|times| *times += 1);
        true
    }
}
