//! Effects of one shard from apply to its delivery, in memory and only while this node leads.
//!
//! Bounded: what does not fit is dropped and marked, and the outbox rows are read instead.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::apply::Effect;

/// Effects that wait in memory; beyond, they are read from the outbox.
const WAITING_MAX: usize = 16 * 1024;
/// Their bytes.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Bytes taken at once, soft.
const TAKEN_BYTES_MAX: usize = 256 * 1024;

/// The effects of one shard that wait to be delivered.
#[derive(Default)]
pub struct Feed {
    open: AtomicBool,
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Effect>,
    bytes: usize,
    dropped: bool,
}

/// What the reader of a feed gets.
pub enum Fed {
    /// The next effects, in order, without a gap since the last.
    Effects(Vec<Effect>),
    /// Some were dropped: read the outbox.
    Gap,
}

impl Feed {
    /// Effects of entries whose apply begins from now on are kept.
    pub fn open(&self) {
        let mut inner = self.inner.lock();
        *inner = Inner::default();
        self.open.store(true, Ordering::SeqCst);
    }

    /// From now on effects are dropped: this node does not lead.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        *inner = Inner::default();
        self.open.store(false, Ordering::SeqCst);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Waits for effects; takes at most `max`. Cancel safe.
    pub async fn next(&self, max: usize) -> Fed {
        loop {
            let filled = self.filled.notified();
            if let Some(fed) = self.inner.lock().take(max) {
                return fed;
            }
            filled.await;
        }
    }

    pub(super) fn push(&self, effects: Vec<Effect>) {
        let mut inner = self.inner.lock();
        if !self.is_open() {
            return;
        }
        // Once something was dropped, all that follows is dropped too until the reader has noticed: no gap inside.
        let bytes = bytes(&effects);
        if inner.dropped
            || inner.waiting.len() + effects.len() > WAITING_MAX
            || inner.bytes + bytes > WAITING_BYTES_MAX
        {
            inner.dropped = true;
        } else {
            inner.bytes += bytes;
            inner.waiting.extend(effects);
        }
        drop(inner);
        self.filled.notify_one();
    }
}

impl Inner {
    fn take(&mut self, max: usize) -> Option<Fed> {
        if self.waiting.is_empty() {
            return std::mem::take(&mut self.dropped).then_some(Fed::Gap);
        }
        let mut bytes_before = 0;
        let fits = self.waiting.iter().take(max).take_while(|effect| {
            let room = bytes_before < TAKEN_BYTES_MAX;
            bytes_before += effect.size();
            room
        });
        let count = fits.count();
        let effects: Vec<_> = self.waiting.drain(..count).collect();
        self.bytes -= bytes(&effects);
        Some(Fed::Effects(effects))
    }
}

fn bytes(effects: &[Effect]) -> usize {
    effects.iter().map(Effect::size).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parlance_proto::ids::{AppId, ConversationId};

    use super::*;
    use crate::conversation::Audience;

    fn effects(numbers: std::ops::Range<u64>) -> Vec<Effect> {
        let effect = |number| Effect {
            number,
            app: AppId::new("demo").unwrap(),
            conversation: ConversationId::parse("d:1:a:b").unwrap(),
            audience: Audience::Users(Vec::new()),
            except_session_id: String::new(),
            frame: Bytes::new(),
        };
        numbers.map(effect).collect()
    }

    #[tokio::test]
    async fn effects_come_in_order_and_an_overflow_is_a_gap_behind_what_fitted() {
        let feed = Feed::default();
        feed.push(effects(1..3)); // nobody leads: dropped without a trace
        feed.open();
        feed.push(effects(3..5));
        feed.push(effects(5..5 + WAITING_MAX as u64));
        feed.push(effects(90_000..90_001));
        let Fed::Effects(first) = feed.next(100).await else {
            panic!("a gap came before what fitted")
        };
        assert_eq!(first.iter().map(|e| e.number).collect::<Vec<_>>(), [3, 4]);
        assert!(matches!(feed.next(100).await, Fed::Gap));
        feed.push(effects(7..8));
        assert!(matches!(feed.next(100).await, Fed::Effects(e) if e.len() == 1));
    }
}
