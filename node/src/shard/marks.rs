//! How far each consumer of a shard's outbox has come. Consumers say so here, and the proposer writes it down with the
//! next entry.

use std::sync::atomic::{AtomicU64, Ordering};

use parlance_proto::store::v1::{Consumer, ShardState, Watermark};

use crate::apply::{CONSUMERS, watermark};

/// One number for each consumer; the outbox items up to it are done.
#[derive(Default)]
pub struct Marks([AtomicU64; CONSUMERS.len()]);

impl Marks {
    /// What the shard's rows say.
    pub fn load(&self, state: &ShardState) {
        for (consumer, mark) in CONSUMERS.iter().zip(&self.0) {
            mark.store(watermark(state, *consumer), Ordering::Relaxed);
        }
    }

    /// A consumer is done with everything up to `number`.
    pub fn set(&self, consumer: Consumer, number: u64) {
        if let Some(at) = CONSUMERS.iter().position(|known| *known == consumer) {
            self.0[at].store(number, Ordering::Relaxed);
        }
    }

    /// How far a consumer is.
    #[cfg(test)]
    pub fn get(&self, consumer: Consumer) -> u64 {
        let at = CONSUMERS.iter().position(|known| *known == consumer);
        at.map_or(0, |at| self.0[at].load(Ordering::Relaxed))
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
        std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed))
    }
}
