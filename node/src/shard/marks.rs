//! How far each consumer of a shard's outbox has come. Consumers say so here, and the proposer writes it down with the
//! next entry. They say too since when their oldest item has been under way.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use parlance_proto::store::v1::{Consumer, ShardState, Watermark};

use tokio::time::{Duration, Instant};

use crate::apply::{CONSUMERS, watermark};

/// One number for each consumer; the outbox items up to it are done.
#[derive(Default)]
pub struct Marks {
    done: [AtomicU64; CONSUMERS.len()],
    /// Since when the first item that is not done has been under way.
    oldest: Mutex<[Option<Instant>; CONSUMERS.len()]>,
}

impl Marks {
    /// What the shard's rows say.
    pub fn load(&self, state: &ShardState) {
        for (consumer, mark) in CONSUMERS.iter().zip(&self.done) {
            mark.store(watermark(state, *consumer), Ordering::Relaxed);
        }
    }

    /// A consumer is done with everything up to `number`.
    pub fn set(&self, consumer: Consumer, number: u64) {
        if let Some(at) = place(consumer) {
            self.done[at].store(number, Ordering::Relaxed);
        }
    }

    /// Since when a consumer's oldest item has been under way; none if it has none.
    pub fn set_oldest(&self, consumer: Consumer, since: Option<Instant>) {
        if let Some(at) = place(consumer) {
            self.oldest.lock()[at] = since;
        }
    }

    /// How long the oldest item of any consumer has been under way.
    pub fn waiting(&self) -> Duration {
        let oldest = self.oldest.lock().iter().flatten().min().copied();
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// How far a consumer is.
    #[cfg(test)]
    pub fn get(&self, consumer: Consumer) -> u64 {
        place(consumer).map_or(0, |at| self.done[at].load(Ordering::Relaxed))
    }

    /// Those that are further than `written`.
    pub(super) fn moved(&self, written: &[u64; CONSUMERS.len()]) -> Vec<Watermark> {
        let marks = self.now();
        let moved = (0..marks.len()).filter(|at| marks[*at] > written[*at]);
        moved
            .map(|at| Watermark {
                consumer: CONSUMERS[at].into(),
                number: marks[at],
            })
            .collect()
    }

    /// All of them.
    pub(super) fn now(&self) -> [u64; CONSUMERS.len()] {
        std::array::from_fn(|at| self.done[at].load(Ordering::Relaxed))
    }
}

fn place(consumer: Consumer) -> Option<usize> {
    CONSUMERS.iter().position(|known| *known == consumer)
}
