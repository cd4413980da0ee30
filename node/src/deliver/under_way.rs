//! Which outbox items one consumer has under way, and up to where all are done.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::store::v1::Consumer;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::budget::{Budget, Share};
use crate::metrics;
use crate::shard::Marks;

/// Items, done or not, from the first that is not: a few bytes each.
const WINDOW_ITEMS_MAX: usize = 1 << 20;

/// The outbox items that a consumer has under way in one term of one shard.
pub(super) struct UnderWay {
    consumer: Consumer,
    marks: Arc<Marks>,
    share: Share,
    inner: Mutex<Inner>,
    moved: Notify,
}

struct Inner {
    /// The number of the first item in `open`.
    base: u64,
    /// The items from `base` on.
    open: VecDeque<Open>,
    /// Items with deliveries still under way.
    undone: usize,
    /// Their bytes.
    bytes: usize,
    cancelled: bool,
}

struct Open {
    /// Still under way.
    deliveries: u32,
    bytes: usize,
    since: Instant,
}

/// One delivery of one item; dropping it without [`Delivery::done`] leaves the item open.
pub(super) struct Delivery {
    number: u64,
    under_way: Arc<UnderWay>,
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
            base: done + 1,
            open: VecDeque::new(),
            undone: 0,
            bytes: 0,
            cancelled: false,
        };
        Arc::new(Self {
            consumer,
            marks,
            share: budget.share(),
            inner: Mutex::new(inner),
            moved: Notify::new(),
        })
    }

    /// The number that comes next.
    pub(super) fn next_number(&self) -> u64 {
        let inner = self.inner.lock();
        inner.base + inner.open.len() as u64
    }

    /// Takes the next item, of so many bytes and with so many deliveries. None is needed: an item without any is done
    /// at once.
    pub(super) fn begin(self: &Arc<Self>, deliveries: u32, bytes: usize) -> Vec<Delivery> {
        let number = {
            let mut inner = self.inner.lock();
            let bytes = if deliveries == 0 { 0 } else { bytes };
            inner.bytes += bytes;
            inner.undone += usize::from(deliveries > 0);
            inner.open.push_back(Open {
                deliveries,
                bytes,
                since: Instant::now(),
            });
            inner.base + inner.open.len() as u64 - 1
        };
        self.advance();
        (0..deliveries)
            .map(|_| Delivery {
                number,
                under_way: self.clone(),
            })
            .collect()
    }

    /// The term is over: deliveries that have not been made need not be.
    pub(super) fn cancel(&self) {
        self.inner.lock().cancelled = true;
        self.marks.set_oldest(self.consumer, None);
        self.moved.notify_waiters();
    }

    /// Waits until another item may be under way.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let moved = self.moved.notified();
            if self.has_room() {
                return;
            }
            moved.await;
        }
    }

    fn has_room(&self) -> bool {
        let inner = self.inner.lock();
        inner.open.len() < WINDOW_ITEMS_MAX && self.share.has_room(inner.undone, inner.bytes)
    }

    fn advance(&self) {
        let mut inner = self.inner.lock();
        let before = inner.base;
        while inner.open.front().is_some_and(|item| item.deliveries == 0) {
            inner.open.pop_front();
            inner.base += 1;
        }
        if inner.cancelled {
            return;
        }
        if inner.base != before {
            self.marks.set(self.consumer, inner.base - 1);
        }
        if inner.base != before || inner.open.len() == 1 {
            let oldest = inner.open.front().map(|item| item.since);
            self.marks.set_oldest(self.consumer, oldest);
        }
    }
}

impl Delivery {
    /// It has been made.
    pub(super) fn done(self) {
        let mut item_done = None;
        {
            let mut inner = self.under_way.inner.lock();
            let place = usize::try_from(self.number.wrapping_sub(inner.base)).unwrap_or(usize::MAX);
            if let Some(item) = inner.open.get_mut(place) {
                item.deliveries = item.deliveries.saturating_sub(1);
                if item.deliveries == 0 {
                    item_done = Some(item.since);
                    let bytes = std::mem::take(&mut item.bytes);
                    inner.bytes -= bytes;
                    inner.undone -= 1;
                }
            }
        }
        self.under_way.advance();
        if let Some(since) = item_done {
            metrics::delivered(since.elapsed());
            self.under_way.moved.notify_waiters();
        }
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
    async fn large_items_leave_less_room_until_they_are_done_in_any_order() {
        let (items, _) = under_way(0);
        let half = 32 << 20; // of what a node has
        let _stuck = items.begin(1, half);
        let other = items.begin(1, half).remove(0);
        assert!(!items.has_room());
        let waiting = tokio::spawn({
            let items = items.clone();
            async move { items.wait_for_room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        other.done();
        waiting.await.unwrap();
    }
}
