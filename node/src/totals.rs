//! What all shards of a node together may hold in memory: each kind has a total, and each shard a part of it. A node with
//! thousands of shards holds no more than one with few. Links have a total of their own: `link/held.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of committed effects that wait for their delivery; what does not fit is read from the outbox.
const FEED_BYTES_MAX: usize = 64 << 20;
/// Bytes of commands that wait for their entry.
const QUEUE_BYTES_MAX: usize = 256 << 20;
/// Conversations whose newest state is kept, so that a message into them reads no row: about 200 bytes each.
const TIPS_MAX: usize = 512 * 1024;
/// Entries of conversation lists that are known as touched, so that relays read no row: about 30 bytes each.
const TOUCHED_MAX: usize = 256 * 1024;

/// The totals of a node.
#[derive(Debug, Clone)]
pub struct Totals {
    /// In bytes.
    pub feeds: Arc<Total>,
    /// In bytes.
    pub queues: Arc<Total>,
    /// In conversations.
    pub tips: Arc<Total>,
    /// In entries of lists.
    pub touched: Arc<Total>,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            feeds: Total::new(FEED_BYTES_MAX),
            queues: Total::new(QUEUE_BYTES_MAX),
            tips: Total::new(TIPS_MAX),
            touched: Total::new(TOUCHED_MAX),
        }
    }
}

/// One kind.
#[derive(Debug)]
pub struct Total {
    used: AtomicUsize,
    max: usize,
}

/// What one shard has of it, until it is dropped.
#[derive(Debug)]
pub struct Part {
    total: Arc<Total>,
    used: usize,
}

impl Total {
    /// With this bound.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            max,
        })
    }

    /// Whether so much more would pass the bound.
    pub fn is_passed_by(&self, more: usize) -> bool {
        self.used.load(Ordering::Relaxed).saturating_add(more) > self.max
    }

    /// What all hold.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A shard holds so much more.
    pub fn add(&self, more: usize) {
        self.used.fetch_add(more, Ordering::Relaxed);
    }

    /// A shard holds so much less.
    pub fn sub(&self, less: usize) {
        self.used.fetch_sub(less, Ordering::Relaxed);
    }

    /// A shard that holds nothing yet.
    pub fn part(self: &Arc<Self>) -> Part {
        Part {
            total: self.clone(),
            used: 0,
        }
    }
}

impl Part {
    /// What it is.
    pub fn used(&self) -> usize {
        self.used
    }

    /// The shard holds this much now.
    pub fn set(&mut self, used: usize) {
        self.total.add(used);
        self.total.sub(self.used);
        self.used = used;
    }

    /// Whether so much more would pass the bound of all shards.
    pub fn is_passed_by(&self, more: usize) -> bool {
        self.total.is_passed_by(more)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.total.sub(self.used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_what_its_parts_hold_and_a_part_that_is_gone_holds_nothing() {
        let total = Total::new(100);
        let (mut one, mut two) = (total.part(), total.part());
        one.set(60);
        two.set(30);
        assert!(!two.is_passed_by(10) && two.is_passed_by(11));
        one.set(70);
        assert!(total.is_passed_by(1));
        drop(one);
        assert!(!total.is_passed_by(70) && total.is_passed_by(71));
    }
}
