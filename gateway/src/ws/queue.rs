//! What waits to be written to one socket: bounded by bytes and frames, shared frames, no memory when empty.
//! Overflow closes the queue with [`Close::TooSlow`]; whoever pushes never waits.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;

use crate::metrics::OUTBOUND_BYTES;
use crate::ws::close::Close;

/// A drained queue above this capacity gives its memory back.
const KEPT_FRAMES: usize = 8;

/// The outbound queue of one connection.
#[derive(Debug)]
pub struct Outbound {
    bytes_max: usize,
    frames_max: usize,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    frames: VecDeque<Message>,
    bytes: usize,
    closed: Option<Close>,
}

impl Outbound {
    /// An empty queue.
    pub fn new(bytes_max: usize, frames_max: usize) -> Self {
        Self {
            bytes_max,
            frames_max,
            inner: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Adds a frame at the end; false if the queue is closed or had no room, which closes it.
    pub fn push(&self, frame: Message) -> bool {
        let mut inner = self.inner.lock();
        if inner.closed.is_some() {
            return false;
        }
        let length = frame.len();
        // One frame always fits, whatever its size.
        let full = inner.frames.len() >= self.frames_max || inner.bytes + length > self.bytes_max;
        if full && !inner.frames.is_empty() {
            inner.close(Close::TooSlow);
            drop(inner);
            self.changed.notify_one();
            return false;
        }
        inner.bytes += length;
        inner.frames.push_back(frame);
        metrics::gauge!(OUTBOUND_BYTES).increment(length as f64);
        drop(inner);
        self.changed.notify_one();
        true
    }

    /// Adds a frame before all others: the answer to a login goes before the pushes that it allowed.
    pub fn push_first(&self, frame: Message) {
        let mut inner = self.inner.lock();
        if inner.closed.is_none() {
            inner.bytes += frame.len();
            metrics::gauge!(OUTBOUND_BYTES).increment(frame.len() as f64);
            inner.frames.push_front(frame);
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// Takes the next frame.
    pub fn pop(&self) -> Option<Message> {
        let mut inner = self.inner.lock();
        let frame = inner.frames.pop_front()?;
        inner.bytes -= frame.len();
        metrics::gauge!(OUTBOUND_BYTES).decrement(frame.len() as f64);
        if inner.frames.is_empty() && inner.frames.capacity() > KEPT_FRAMES {
            inner.frames = VecDeque::new();
        }
        Some(frame)
    }

    /// Asks the connection to close; the first reason stays. Frames already queued are still written, except
    /// for a reader that is too slow.
    pub fn close(&self, reason: Close) {
        self.inner.lock().close(reason);
        self.changed.notify_one();
    }

    /// Why the connection is to close, if it is.
    pub fn closed(&self) -> Option<Close> {
        self.inner.lock().closed
    }

    /// Resolves after a push or a close; may resolve without one.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Inner {
    fn close(&mut self, reason: Close) {
        if self.closed.is_none() {
            self.closed = Some(reason);
        }
        if matches!(reason, Close::TooSlow | Close::Gone) {
            metrics::gauge!(OUTBOUND_BYTES).decrement(self.bytes as f64);
            self.bytes = 0;
            self.frames = VecDeque::new();
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.inner.get_mut().close(Close::Gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_closes_the_queue_and_frees_it() {
        let queue = Outbound::new(100, 10);
        assert!(
            queue.push(Message::binary(vec![0; 200])),
            "one frame always fits"
        );
        assert!(!queue.push(Message::binary(vec![0; 1])));
        assert_eq!(queue.closed(), Some(Close::TooSlow));
        assert!(queue.pop().is_none());
        assert!(!queue.push(Message::binary(vec![0; 1])));
    }

    #[test]
    fn frames_are_bounded_too_and_drained_memory_goes_back() {
        let queue = Outbound::new(1 << 20, 100);
        for _ in 0..100 {
            assert!(queue.push(Message::text("x")));
        }
        while queue.pop().is_some() {}
        assert_eq!(queue.inner.lock().frames.capacity(), 0);
        for _ in 0..100 {
            assert!(queue.push(Message::text("x")));
        }
        assert!(!queue.push(Message::text("x")));
    }
}
