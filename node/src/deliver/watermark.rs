//! Which outbox items are done, and up to where all are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The outbox items under way in one term of one shard.
pub(super) struct Watermark {
    relayed: Arc<AtomicU64>,
    inner: Mutex<Inner>,
    moved: Notify,
}

struct Inner {
    /// The number of the first item in `open`.
    base: u64,
    /// Deliveries still under way of each item from `base` on.
    open: VecDeque<u32>,
    cancelled: bool,
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

    /// Takes the next item, with so many deliveries. None is needed: an item without any is done at once.
    pub(super) fn begin(self: &Arc<Self>, deliveries: u32) -> Vec<Delivery> {
        let number = {
            let mut inner = self.inner.lock();
            inner.open.push_back(deliveries);
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

    /// Waits until fewer than `max` items are under way.
    pub(super) async fn wait_for_room(&self, max: usize) {
        loop {
            let moved = self.moved.notified();
            if self.inner.lock().open.len() < max {
                return;
            }
            moved.await;
        }
    }

    fn advance(&self) {
        let mut inner = self.inner.lock();
        let before = inner.base;
        while inner.open.front() == Some(&0) {
            inner.open.pop_front();
            inner.base += 1;
        }
        if inner.base != before && !inner.cancelled {
            self.relayed.store(inner.base - 1, Ordering::Relaxed);
            self.moved.notify_waiters();
        }
    }
}

impl Delivery {
    /// It has been made.
    pub(super) fn done(self) {
        {
            let mut inner = self.watermark.inner.lock();
            let place = usize::try_from(self.number.wrapping_sub(inner.base)).unwrap_or(usize::MAX);
            if let Some(open) = inner.open.get_mut(place) {
                *open = open.saturating_sub(1);
            }
        }
        self.watermark.advance();
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
        let mut first = watermark.begin(2);
        let second = watermark.begin(1);
        second.into_iter().for_each(Delivery::done);
        assert_eq!(relayed.load(Ordering::Relaxed), 10);
        first.pop().unwrap().done();
        assert_eq!(relayed.load(Ordering::Relaxed), 10);
        first.pop().unwrap().done();
        assert_eq!(relayed.load(Ordering::Relaxed), 12);
        assert_eq!(watermark.next_number(), 13);
        drop(watermark.begin(1));
        watermark.begin(0);
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
        let delivery = old.begin(1).pop().unwrap();
        old.cancel();
        assert!(!delivery.is_wanted());
        Watermark::new(5, relayed.clone());
        delivery.done();
        assert_eq!(relayed.load(Ordering::Relaxed), 5);
    }
}
