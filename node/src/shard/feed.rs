//! Effects of one shard from apply to its delivery, in memory and only while this node leads.
//!
//! Bounded: what does not fit is dropped and marked, and the outbox rows are read instead.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::apply::Effect;
use crate::totals::{Part, Total};

/// Effects that wait in memory; beyond, they are read from the outbox.
const WAITING_MAX: usize = 16 * 1024;
/// Their bytes.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Bytes taken at once, soft.
const TAKEN_BYTES_MAX: usize = 256 * 1024;

/// The effects of one shard that wait to be delivered.
pub struct Feed {
    open: AtomicBool,
    inner: Mutex<Inner>,
    filled: Notify,
}

struct Inner {
    waiting: VecDeque<Effect>,
    bytes: usize,
    dropped: bool,
    /// The bytes, as all shards of the node count them together.
    part: Part,
}

/// What the reader of a feed gets.
pub enum Fed {
    /// The next effects, in order, without a gap since the last.
    Effects(Vec<Effect>),
    /// Some were dropped: read the outbox.
    Gap,
}

impl Feed {
    /// Closed, with a part of what the feeds of all shards may hold.
    pub fn new(total: &Arc<Total>) -> Self {
        Self {
            open: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                waiting: VecDeque::new(),
                bytes: 0,
                dropped: false,
                part: total.part(),
            }),
            filled: Notify::new(),
        }
    }

    /// Effects of entries whose apply begins from now on are kept.
    pub fn open(&self) {
        let mut inner = self.inner.lock();
        inner.clear();
        self.open.store(true, Ordering::SeqCst);
    }

    /// From now on effects are dropped: this node does not lead.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.clear();
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
            || inner.part.is_passed_by(bytes)
        {
            inner.dropped = true;
        } else {
            let all = inner.bytes + bytes;
            inner.count(all);
            inner.waiting.extend(effects);
        }
        drop(inner);
        self.filled.notify_one();
    }
}

impl Inner {
    fn clear(&mut self) {
        self.waiting = VecDeque::new();
        self.dropped = false;
        self.count(0);
    }

    fn count(&mut self, bytes: usize) {
        self.bytes = bytes;
        self.part.set(bytes);
    }

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
        self.count(self.bytes - bytes(&effects));
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
        let feed = Feed::new(&Total::new(usize::MAX));
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

    #[tokio::test]
    async fn feeds_that_together_hold_too_much_leave_the_rest_to_the_outbox() {
        let effects = |number| {
            let mut effects = effects(number..number + 1);
            effects[0].frame = Bytes::from_static(&[0; 600]);
            effects
        };
        let total = Total::new(effects(1)[0].size() * 2);
        let (one, two) = (Feed::new(&total), Feed::new(&total));
        one.open();
        two.open();
        one.push(effects(1));
        one.push(effects(2));
        two.push(effects(1));
        assert!(matches!(two.next(10).await, Fed::Gap));
        assert!(matches!(one.next(10).await, Fed::Effects(taken) if taken.len() == 2));
        two.push(effects(2));
        assert!(matches!(two.next(10).await, Fed::Effects(taken) if taken.len() == 1));
    }
}
