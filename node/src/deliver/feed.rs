//! Effects of one shard from apply to its relay, in memory and only while this node leads.
//!
//! Bounded: what does not fit is dropped and marked, and the relay reads the outbox rows instead.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::apply::{Effect, Effects};

/// Effects that wait in memory; beyond, the relay reads them from the outbox.
const WAITING_MAX: usize = 16 * 1024;
/// Their bytes.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Bytes taken at once, soft.
const TAKEN_BYTES_MAX: usize = 256 * 1024;

/// The effects of one shard that wait for its relay.
#[derive(Default)]
pub struct OutboxFeed {
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

/// What a relay gets from its feed.
pub(super) enum Fed {
    /// The next effects, in order, without a gap since the last.
    Effects(Vec<Effect>),
    /// Some were dropped: read the outbox.
    Gap,
}

impl OutboxFeed {
    /// The end that apply writes to.
    pub fn sink(self: &Arc<Self>) -> Box<dyn Effects> {
        Box::new(Sink(self.clone()))
    }

    /// Effects of entries whose apply begins from now on are kept.
    pub(super) fn open(&self) {
        let mut inner = self.inner.lock();
        *inner = Inner::default();
        self.open.store(true, Ordering::SeqCst);
    }

    /// From now on effects are dropped: this node does not lead.
    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        *inner = Inner::default();
        self.open.store(false, Ordering::SeqCst);
    }

    /// Waits for effects; takes at most `max`. Cancel safe.
    pub(super) async fn next(&self, max: usize) -> Fed {
        loop {
            let filled = self.filled.notified();
            {
                let mut inner = self.inner.lock();
                if !inner.waiting.is_empty() {
                    let mut bytes_before = 0;
                    let fits = inner.waiting.iter().take(max).take_while(|effect| {
                        let room = bytes_before < TAKEN_BYTES_MAX;
                        bytes_before += effect.size();
                        room
                    });
                    let count = fits.count();
                    let effects: Vec<_> = inner.waiting.drain(..count).collect();
                    inner.bytes -= bytes(&effects);
                    return Fed::Effects(effects);
                }
                if std::mem::take(&mut inner.dropped) {
                    return Fed::Gap;
                }
            }
            filled.await;
        }
    }
}

fn bytes(effects: &[Effect]) -> usize {
    effects.iter().map(Effect::size).sum()
}

struct Sink(Arc<OutboxFeed>);

impl Effects for Sink {
    fn wanted(&self) -> bool {
        self.0.open.load(Ordering::SeqCst)
    }

    fn publish(&mut self, effects: Vec<Effect>) {
        let mut inner = self.0.inner.lock();
        if !self.wanted() {
            return;
        }
        // Once something was dropped, all that follows is dropped too until the relay has noticed: no gap inside.
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
        self.0.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::EffectBody;

    fn effects(numbers: std::ops::Range<u64>) -> Vec<Effect> {
        let effect = |number| Effect {
            number,
            app_id: "demo".into(),
            conversation_id: "d:1:a:b".into(),
            body: EffectBody::ReadCursor(Default::default()),
        };
        numbers.map(effect).collect()
    }

    #[tokio::test]
    async fn effects_come_in_order_and_an_overflow_is_a_gap_behind_what_fitted() {
        let feed = Arc::new(OutboxFeed::default());
        let mut sink = feed.sink();
        assert!(!sink.wanted());
        sink.publish(effects(1..3)); // nobody leads: dropped without a trace
        feed.open();
        assert!(sink.wanted());
        sink.publish(effects(3..5));
        sink.publish(effects(5..5 + WAITING_MAX as u64));
        sink.publish(effects(90_000..90_001));
        let Fed::Effects(first) = feed.next(100).await else {
            panic!("a gap came before what fitted")
        };
        assert_eq!(first.iter().map(|e| e.number).collect::<Vec<_>>(), [3, 4]);
        assert!(matches!(feed.next(100).await, Fed::Gap));
        sink.publish(effects(7..8));
        assert!(matches!(feed.next(100).await, Fed::Effects(e) if e.len() == 1));
    }
}
