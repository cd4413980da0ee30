//! Bytes that a process may hold for one purpose, whoever they are for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// So many bytes, and how many of them are taken.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: AtomicUsize,
    exceeded: Notify,
}

/// Bytes taken out of a budget; they go back when this is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of `max` bytes.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            used: AtomicUsize::new(0),
            exceeded: Notify::new(),
        })
    }

    /// Takes bytes; none if there are not so many left.
    pub fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Charge {
            budget: self.clone(),
            bytes,
        })
    }

    /// Takes bytes that are there already. Somebody has to make room if that is too much: see [`Budget::exceeded`].
    pub fn take(self: &Arc<Self>, bytes: usize) -> Charge {
        let mut charge = Charge {
            budget: self.clone(),
            bytes: 0,
        };
        charge.add(bytes);
        charge
    }

    /// Bytes taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes taken that should not be.
    pub fn excess(&self) -> usize {
        self.used().saturating_sub(self.max)
    }

    /// Resolves when more was taken than there is; may resolve when that is over already.
    pub async fn exceeded(&self) {
        self.exceeded.notified().await;
    }
}

impl Charge {
    /// Takes more.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.budget.max {
            self.budget.exceeded.notify_one();
        }
    }

    /// Takes more or gives back, so that it is so much.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.add(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.give_back(self.bytes - bytes);
        }
    }

    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all charges together are more than the budget.
    pub fn is_beyond_budget(&self) -> bool {
        self.budget.excess() > 0
    }

    /// Gives some back.
    pub fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives everything back.
    pub fn clear(&mut self) {
        self.give_back(self.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_comes_back_and_too_much_is_told() {
        let budget = Budget::new(100);
        let first = budget.try_take(60).unwrap();
        assert!(budget.try_take(41).is_none());
        let second = budget.try_take(40).unwrap();
        assert!(budget.try_take(usize::MAX).is_none());
        drop(first);
        let mut forced = budget.take(90);
        assert_eq!((budget.used(), budget.excess()), (130, 30));
        budget.exceeded().await;
        forced.set(50);
        forced.set(95);
        assert_eq!(budget.used(), 135);
        forced.give_back(1000);
        drop(second);
        assert_eq!((budget.used(), budget.excess()), (0, 0));
    }
}
