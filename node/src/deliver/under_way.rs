//! Which outbox items one consumer has under way, and up to where all are done.
//!
//! What a home shard that takes nothing holds up is not kept in memory for ever: beyond a bound only the numbers are
//! remembered between which its deliveries lie (*set aside*). They hold the watermark back, and are read from the outbox again
//! once the home takes something.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::ids::ShardId;
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::store::v1::Consumer;
use tokio::time::Instant;

use super::budget::{Budget, Room, Share};
use crate::metrics;
use crate::shard::Marks;

/// The outbox items that a consumer has under way in one term of one shard.
pub(super) struct UnderWay {
    consumer: Consumer,
    marks: Arc<Marks>,
    share: Arc<Share>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// The number that comes next.
    next: u64,
    /// Items with deliveries still under way, by number.
    open: BTreeMap<u64, Open>,
    aside: BTreeMap<ShardId, Aside>,
    /// What `marks` says.
    marked: u64,
    cancelled: bool,
}

struct Open {
    /// Still under way.
    deliveries: u32,
    since: Instant,
}

/// Deliveries to one home shard that are not kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aside {
    /// To whom they go. Not what the home owns: that may be less by then, and what has moved must not be lost.
    pub(super) slots: SlotRange,
    /// The number of the first item that has one.
    pub(super) first: u64,
    pub(super) last: u64,
    since: Instant,
}

/// One delivery of one item; dropping it without [`Delivery::done`] leaves the item open.
pub(super) struct Delivery {
    number: u64,
    under_way: Arc<UnderWay>,
    /// What it takes of the shard's share.
    room: Option<Room>,
}

impl UnderWay {
    /// Everything up to `done` is done; how far the consumer is from there on is said in `marks`.
    pub(super) fn new(
        consumer: Consumer,
        done: u64,
        marks: Arc<Marks>,
        budget: &Arc<Budget>,
    ) -> Arc<Self> {
        marks.set(consumer, done);
        let inner = Inner {
            next: done + 1,
            open: BTreeMap::new(),
            aside: BTreeMap::new(),
            marked: done,
            cancelled: false,
        };
        Arc::new(Self {
            consumer,
            marks,
            share: budget.share(),
            inner: Mutex::new(inner),
        })
    }

    /// The number that comes next.
    pub(super) fn next_number(&self) -> u64 {
        self.inner.lock().next
    }

    /// Takes the next item, with so many deliveries of so many bytes each. None is needed: an item without any is done at
    /// once.
    pub(super) fn begin(self: &Arc<Self>, deliveries: u32, bytes: usize) -> Vec<Delivery> {
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        inner.open(number, deliveries);
        self.advance(&mut inner);
        drop(inner);
        self.deliveries(number, deliveries, bytes)
    }

    /// Takes an item that was set aside for a home, with so many deliveries to it of so many bytes each: what was set aside up
    /// to it is over then. None if more has been set aside since `aside` was asked for that it does not say: take it up
    /// anew.
    pub(super) fn begin_again(
        self: &Arc<Self>,
        home: ShardId,
        aside: &Aside,
        number: u64,
        (deliveries, bytes): (u32, usize),
    ) -> Option<Vec<Delivery>> {
        let mut inner = self.inner.lock();
        let now = inner.aside.get_mut(&home)?;
        if (now.first, now.slots) != (aside.first, aside.slots) {
            return None;
        }
        now.first = number + 1;
        if now.first > now.last {
            inner.aside.remove(&home);
        }
        inner.open(number, deliveries);
        self.advance(&mut inner);
        drop(inner);
        Some(self.deliveries(number, deliveries, bytes))
    }

    fn deliveries(self: &Arc<Self>, number: u64, count: u32, bytes: usize) -> Vec<Delivery> {
        let delivery = |_| Delivery {
            number,
            under_way: self.clone(),
            room: Some(self.share.take(bytes)),
        };
        (0..count).map(delivery).collect()
    }

    /// What was set aside, by home.
    pub(super) fn aside(&self) -> Vec<(ShardId, Aside)> {
        let inner = self.inner.lock();
        inner
            .aside
            .iter()
            .map(|(id, aside)| (*id, *aside))
            .collect()
    }

    /// The term is over: deliveries that have not been made need not be.
    pub(super) fn cancel(&self) {
        self.inner.lock().cancelled = true;
        self.marks.set_oldest(self.consumer, None);
    }

    /// Waits until another item may be under way.
    pub(super) async fn wait_for_room(&self) {
        self.share.wait_for_room().await;
    }

    fn advance(&self, inner: &mut Inner) {
        let firsts = inner.aside.values().map(|aside| aside.first);
        let firsts = firsts.chain(inner.open.keys().next().copied());
        let done = firsts.min().unwrap_or(inner.next) - 1;
        if inner.cancelled {
            return;
        }
        let moved = done > inner.marked;
        if moved {
            inner.marked = done;
            self.marks.set(self.consumer, done);
        }
        if moved || inner.open.len() + inner.aside.len() == 1 {
            self.marks.set_oldest(self.consumer, inner.oldest());
        }
    }
}

impl Inner {
    fn open(&mut self, number: u64, deliveries: u32) {
        if deliveries > 0 {
            let item = self.open.entry(number).or_insert(Open {
                deliveries: 0,
                since: Instant::now(),
            });
            item.deliveries += deliveries;
        }
    }

    /// One delivery of an item less. Answers since when it was under way if it was the last.
    fn close(&mut self, number: u64) -> Option<Instant> {
        let item = self.open.get_mut(&number)?;
        item.deliveries -= 1;
        if item.deliveries > 0 {
            return None;
        }
        self.open.remove(&number).map(|item| item.since)
    }

    /// Since when the oldest item that is not done has been under way.
    fn oldest(&self) -> Option<Instant> {
        let open = self.open.values().next().map(|item| item.since);
        let aside = self.aside.values().map(|aside| aside.since);
        aside.chain(open).min()
    }
}

impl Delivery {
    /// It has been made.
    pub(super) fn done(self) {
        if let Some(since) = self.close(|_| ()) {
            metrics::delivered(since.elapsed());
        }
    }

    /// It cannot be made now and is not kept: its user is in `slot`, and its home has too many already.
    pub(super) fn set_aside(self, home: ShardId, slot: Slot) {
        let number = self.number;
        self.close(|inner| {
            let aside = inner.aside.entry(home).or_insert(Aside {
                slots: SlotRange::of(slot),
                first: number,
                last: number,
                since: Instant::now(),
            });
            aside.slots = aside.slots.widened_to(slot);
            aside.first = aside.first.min(number);
            aside.last = aside.last.max(number);
        });
    }

    /// Answers since when its item was under way if it was the last delivery of it.
    fn close(&self, before: impl FnOnce(&mut Inner)) -> Option<Instant> {
        let mut inner = self.under_way.inner.lock();
        before(&mut inner);
        let item_done = inner.close(self.number);
        self.under_way.advance(&mut inner);
        item_done
    }

    /// It waits, where what waits has a bound of its own: others may have its room.
    pub(super) fn waits(&mut self) {
        self.room = None;
    }

    /// Whether it still has to be made by this node.
    pub(super) fn is_wanted(&self) -> bool {
        !self.under_way.inner.lock().cancelled
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn under_way(done: u64) -> (Arc<UnderWay>, Arc<Marks>) {
        let marks = Arc::new(Marks::default());
        let budget = Arc::default();
        let under_way = UnderWay::new(Consumer::Relay, done, marks.clone(), &budget);
        (under_way, marks)
    }

    fn mark(marks: &Marks) -> u64 {
        marks.get(Consumer::Relay)
    }

    #[test]
    fn the_watermark_stops_at_the_first_open_item() {
        let (items, marks) = under_way(10);
        let mut first = items.begin(2, 5);
        let second = items.begin(1, 5);
        second.into_iter().for_each(Delivery::done);
        assert_eq!(mark(&marks), 10);
        first.pop().unwrap().done();
        assert_eq!(mark(&marks), 10);
        first.pop().unwrap().done();
        assert_eq!(mark(&marks), 12);
        assert_eq!(items.next_number(), 13);
        assert_eq!(marks.waiting(), Duration::ZERO);
        drop(items.begin(1, 5));
        items.begin(0, 5);
        assert_eq!(mark(&marks), 12, "a dropped delivery leaves its item open");
    }

    #[test]
    fn after_its_term_a_consumer_moves_no_watermark() {
        let (old, marks) = under_way(0);
        let delivery = old.begin(1, 5).pop().unwrap();
        assert!(marks.waiting() > Duration::ZERO);
        old.cancel();
        assert_eq!(marks.waiting(), Duration::ZERO);
        assert!(!delivery.is_wanted());
        UnderWay::new(Consumer::Relay, 5, marks.clone(), &Arc::default());
        delivery.done();
        assert_eq!(mark(&marks), 5);
    }

    #[tokio::test]
    async fn large_items_leave_less_room_until_they_are_done_or_wait_elsewhere() {
        let (items, marks) = under_way(0);
        let half = 32 << 20; // of what a node has
        let mut stuck = items.begin(1, half).remove(0);
        let other = items.begin(1, half).remove(0);
        assert!(!items.share.has_room());
        let waiting = tokio::spawn({
            let items = items.clone();
            async move { items.wait_for_room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        other.done();
        waiting.await.unwrap();
        let _third = items.begin(1, half);
        assert!(!items.share.has_room());
        stuck.waits();
        assert!(items.share.has_room() && stuck.is_wanted());
        assert_eq!(mark(&marks), 0, "it is not done");
    }

    #[test]
    fn what_is_set_aside_holds_the_watermark_and_no_memory() {
        let (items, marks) = under_way(0);
        let home = ShardId(9);
        let half = 32 << 20; // of what a node has
        for _ in 0..100 {
            let mut both = items.begin(2, half);
            both.pop().unwrap().done();
            both.pop().unwrap().set_aside(home, Slot::FIRST);
        }
        assert!(items.share.has_room());
        assert_eq!(mark(&marks), 0);
        let [(set_aside, aside)] = items.aside()[..] else {
            panic!("{:?}", items.aside())
        };
        assert_eq!((set_aside, aside.first, aside.last), (home, 1, 100));
        assert!(marks.waiting() > Duration::ZERO);
        // The home is back: the first has nothing for it after all, the second is under way again.
        let mut aside = aside;
        let mut again = |number, what| {
            let deliveries = items.begin_again(home, &aside, number, what);
            aside.first = number + 1;
            deliveries.unwrap()
        };
        assert!(again(1, (0, 0)).is_empty());
        assert_eq!(mark(&marks), 1);
        let second = again(2, (1, 5));
        for number in 3..=100 {
            again(number, (0, 0));
        }
        assert!(items.aside().is_empty());
        assert_eq!(mark(&marks), 1);
        second.into_iter().for_each(Delivery::done);
        assert_eq!(mark(&marks), 100);
    }

    #[test]
    fn what_is_set_aside_while_it_is_taken_up_is_taken_up_too() {
        let (items, _) = under_way(0);
        let home = ShardId(9);
        let mut both = items.begin(2, 5);
        both.pop().unwrap().set_aside(home, Slot::FIRST);
        let aside = items.aside()[0].1;
        // Of another user, whom a split has moved.
        both.pop().unwrap().set_aside(home, Slot::LAST);
        assert!(items.begin_again(home, &aside, 1, (1, 5)).is_none());
        let aside = items.aside()[0].1;
        assert_eq!(aside.slots, SlotRange::ALL);
        assert!(items.begin_again(home, &aside, 1, (2, 5)).is_some());
        assert!(items.aside().is_empty());
    }
}
