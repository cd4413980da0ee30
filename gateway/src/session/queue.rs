//! What waits to be written to one connection: bounded by bytes and items, shared pushes, no memory when empty.
//! Overflow closes the queue with [`CloseReason::TooSlow`]; whoever pushes never waits.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{CloseReason, Push};

/// A drained queue above this capacity gives its memory back.
const KEPT_ITEMS: usize = 8;

/// One thing to write.
#[derive(Debug, Clone)]
pub enum Item {
    /// A frame that the connection's own endpoint has encoded.
    Encoded(Bytes),
    /// A push, which the endpoint encodes when it writes it.
    Push(Arc<Push>),
}

impl Item {
    /// What it counts in the queue, in bytes: the size of the frame that the node encoded, whatever the dialect.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Encoded(frame) => frame.len(),
            Self::Push(push) => push.frame().len(),
        }
    }
}

/// The outbound queue of one connection.
#[derive(Debug)]
pub struct Outbound {
    bytes_max: usize,
    items_max: usize,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
    closed: Option<CloseReason>,
}

impl Outbound {
    /// An empty queue.
    pub fn new(bytes_max: usize, items_max: usize) -> Self {
        Self {
            bytes_max,
            items_max,
            inner: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Adds an item at the end; false if the queue is closed or had no room, which closes it.
    pub fn push(&self, item: Item) -> bool {
        let bytes = item.bytes();
        let mut inner = self.inner.lock();
        if inner.closed.is_some() {
            return false;
        }
        // One item always fits, whatever its size.
        let full = inner.items.len() >= self.items_max || inner.bytes + bytes > self.bytes_max;
        // Whoever writes takes all that is there: it need not be told of what joins a queue.
        let first = inner.items.is_empty();
        let fits = first || !full;
        if fits {
            inner.bytes += bytes;
            inner.items.push_back(item);
        } else {
            inner.close(CloseReason::TooSlow);
        }
        drop(inner);
        if first || !fits {
            self.changed.notify_one();
        }
        fits
    }

    /// Adds an item before all others: the answer to a login goes before the pushes that it allowed.
    pub fn push_first(&self, item: Item) {
        let mut inner = self.inner.lock();
        if inner.closed.is_none() {
            inner.bytes += item.bytes();
            inner.items.push_front(item);
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// Hands items over in their order, until `take` wants no more or nothing is left.
    pub fn drain(&self, mut take: impl FnMut(Item) -> bool) {
        let mut inner = self.inner.lock();
        while let Some(item) = inner.items.pop_front() {
            inner.bytes -= item.bytes();
            if !take(item) {
                break;
            }
        }
        if inner.items.is_empty() && inner.items.capacity() > KEPT_ITEMS {
            inner.items = VecDeque::new();
        }
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }

    /// Asks the connection to close; the first reason stays. What is queued is still written, except for a reader
    /// that is too slow.
    pub fn close(&self, reason: CloseReason) {
        self.inner.lock().close(reason);
        self.changed.notify_one();
    }

    /// Why the connection is to close, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        self.inner.lock().closed
    }

    /// Resolves after a push into an empty queue, or a close; may resolve without one.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Inner {
    fn close(&mut self, reason: CloseReason) {
        if self.closed.is_none() {
            self.closed = Some(reason);
        }
        if matches!(reason, CloseReason::TooSlow | CloseReason::Gone) {
            self.bytes = 0;
            self.items = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: usize) -> Item {
        Item::Encoded(vec![0; bytes].into())
    }

    #[test]
    fn overflow_closes_the_queue_and_frees_it() {
        let queue = Outbound::new(100, 10);
        assert!(queue.push(item(200)), "one item always fits");
        assert!(!queue.push(item(1)));
        assert_eq!(queue.closed(), Some(CloseReason::TooSlow));
        assert_eq!(queue.bytes(), 0);
        queue.drain(|_| panic!("freed"));
        assert!(!queue.push(item(1)));
    }

    #[test]
    fn items_are_bounded_too_and_drained_memory_goes_back() {
        let queue = Outbound::new(1 << 20, 100);
        for _ in 0..100 {
            assert!(queue.push(item(1)));
        }
        let mut taken = 0;
        queue.drain(|_| {
            taken += 1;
            taken < 30
        });
        assert_eq!((taken, queue.bytes()), (30, 70));
        queue.drain(|_| true);
        assert_eq!(queue.inner.lock().items.capacity(), 0);
        for _ in 0..100 {
            assert!(queue.push(item(1)));
        }
        assert!(!queue.push(item(1)));
    }
}
