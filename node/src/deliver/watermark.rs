//! Which outbox items are done, and up to where all are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Items of one shard that may be under way at once.
const UNDER_WAY_ITEMS_MAX: usize = 16 * 1024;
/// Their bytes, soft: a shard whose messages are large and whose receivers are stuck holds no more than this in memory.
const UNDER_WAY_BYTES_MAX: usize = 4 << 20;

/// The outbox items under way in one term of one shard.
pub(super) struct Watermark {
    relayed: Arc<AtomicU64>,
    inner: Mutex<Inner>,
    moved: Notify,
}

struct Inner {
    /// The number of the first item in `open`.
    base: u64,
    /// The items from `base` on.
    open: VecDeque<Open>,
    /// Of all items with deliveries still under way.
    bytes: usize,
    cancelled: bool,
}

struct Open {
    /// Still under way.
    deliveries: u32,
    bytes: usize,
}

/// One delivery of one item; dropping it without [`Delivery::done`] leaves the item open.
pub(super) struct Delivery {
    number: u64,
    watermark: Arc<Watermark>,
}

impl Watermark {
    /// Everything up to `relayed` is done; the number is shared with the proposer, which writes it down.
    pub(super) fn new(done: u64, relayed: Arc<AtomicU64>) -> Arc<Self> {
        relayed.store(done, Ordering::Relaxed);
        let inner = Inner {
            base: done + 1,
            open: VecDeque::new(),
            bytes: 0,
            cancelled: false,
        };
        Arc::new(Self {
            relayed,
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
            inner.open.push_back(Open { deliveries, bytes });
            inner.base + inner.open.len() as u64 - 1
        };
        self.advance();
        (0..deliveries)
            .map(|_| Delivery {
                number,
                watermark: self.clone(),
            })
            .collect()
    }

    /// The term is over: deliveries that have not been made need not be.
    pub(super) fn cancel(&self) {
        self.inner.lock().cancelled = true;
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
        inner.open.len() < UNDER_WAY_ITEMS_MAX && inner.bytes < UNDER_WAY_BYTES_MAX
    }

    fn advance(&self) {
        let mut inner = self.inner.lock();
        let before = inner.base;
        while inner.open.front().is_some_and(|item| item.deliveries == 0) {
            inner.open.pop_front();
            inner.base += 1;
        }
        if inner.base != before && !inner.cancelled {
            self.relayed.store(inner.base - 1, Ordering::Relaxed);
        }
    }
}

impl Delivery {
    /// It has been made.
    pub(super) fn done(self) {
        let mut item_done = false;
        {
            let mut inner = self.watermark.inner.lock();
            let place = usize::try_from(self.number.wrapping_sub(inner.base)).unwrap_or(usize::MAX);
            if let Some(item) = inner.open.get_mut(place) {
                item.deliveries = item.deliveries.saturating_sub(1);
                item_done = item.deliveries == 0;
                if item_done {
                    let bytes = std::mem::take(&mut item.bytes);
                    inner.bytes -= bytes;
                }
            }
        }
        self.watermark.advance();
        if item_done {
            self.watermark.moved.notify_waiters();
        }
    }

    /// Whether it still has to be made by this node.
    pub(super) fn is_wanted(&self) -> bool {
        !self.watermark.inner.lock().cancelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_stops_at_the_first_open_item() {
        let relayed = Arc::new(AtomicU64::new(0));
        let watermark = Watermark::new(10, relayed.clone());
        let mut first = watermark.begin(2, 5);
        let second = watermark.begin(1, 5);
        second.into_iter().for_each(Delivery::done);
        assert_eq!(relayed.load(Ordering::Relaxed), 10);
        first.pop().unwrap().done();
        assert_eq!(relayed.load(Ordering::Relaxed), 10);
        first.pop().unwrap().done();
        assert_eq!(relayed.load(Ordering::Relaxed), 12);
        assert_eq!(watermark.next_number(), 13);
        drop(watermark.begin(1, 5));
        watermark.begin(0, 5);
        assert_eq!(
            relayed.load(Ordering::Relaxed),
            12,
            "a dropped delivery leaves its item open"
        );
    }

    #[test]
    fn after_its_term_a_watermark_moves_nothing() {
        let relayed = Arc::new(AtomicU64::new(0));
        let old = Watermark::new(0, relayed.clone());
        let delivery = old.begin(1, 5).pop().unwrap();
        old.cancel();
        assert!(!delivery.is_wanted());
        Watermark::new(5, relayed.clone());
        delivery.done();
        assert_eq!(relayed.load(Ordering::Relaxed), 5);
    }

    #[tokio::test]
    async fn large_items_leave_less_room_until_they_are_done_in_any_order() {
        let watermark = Watermark::new(0, Arc::new(AtomicU64::new(0)));
        let half = UNDER_WAY_BYTES_MAX / 2;
        let _stuck = watermark.begin(1, half);
        let other = watermark.begin(1, half).remove(0);
        assert!(!watermark.has_room());
        let waiting = tokio::spawn({
            let watermark = watermark.clone();
            async move { watermark.wait_for_room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        other.done();
        waiting.await.unwrap();
    }
}
