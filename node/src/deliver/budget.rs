//! What all shards of a node together may have under way to gateways: each that delivers has a part of its own, and may take
//! more while all of them need little.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes of deliveries under way, for the node. Its shards have it all between them; whoever needs more than its part takes it
/// while half of it is free, so that there may be half as much again.
const NODE_BYTES_MAX: usize = 64 << 20;
/// The same in deliveries.
const NODE_DELIVERIES_MAX: usize = 256 * 1024;

/// Shared by all shards of a node.
#[derive(Default)]
pub(super) struct Budget {
    shards: AtomicUsize,
    used: Used,
    /// Told when something is under way no more.
    freed: Notify,
}

#[derive(Default)]
struct Used {
    deliveries: AtomicUsize,
    bytes: AtomicUsize,
}

/// What one shard has under way.
pub(super) struct Share {
    budget: Arc<Budget>,
    used: Used,
}

/// What one delivery takes of it, until it is dropped.
pub(super) struct Room {
    share: Arc<Share>,
    bytes: usize,
}

impl Used {
    fn add(&self, bytes: usize) {
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        self.deliveries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether it is less than one of so many parts of all.
    fn is_below_one_of(&self, parts: usize) -> bool {
        self.deliveries.load(Ordering::Relaxed) < NODE_DELIVERIES_MAX / parts
            && self.bytes.load(Ordering::Relaxed) < NODE_BYTES_MAX / parts
    }
}

impl Budget {
    /// One more shard delivers.
    pub(super) fn share(self: &Arc<Self>) -> Arc<Share> {
        self.shards.fetch_add(1, Ordering::Relaxed);
        Arc::new(Share {
            budget: self.clone(),
            used: Used::default(),
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.shards.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    /// Takes room for one delivery, soft: whether there is any is asked before.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Room {
        self.used.add(bytes);
        self.budget.used.add(bytes);
        Room {
            share: self.clone(),
            bytes,
        }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        let shards = self.budget.shards.load(Ordering::Relaxed).max(1);
        self.used.is_below_one_of(shards) || self.budget.used.is_below_one_of(2)
    }

    /// Waits until there is room.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let freed = self.budget.freed.notified();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let (share, budget) = (&self.share, &self.share.budget);
        share.used.sub(self.bytes);
        budget.used.sub(self.bytes);
        budget.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_its_part_whatever_the_others_have_and_more_while_they_need_little() {
        let budget = Arc::new(Budget::default());
        let [first, second] = [budget.share(), budget.share()];
        let little = second.take(NODE_BYTES_MAX / 8);
        let part = first.take(NODE_BYTES_MAX / 4);
        assert!(first.has_room(), "its part is not used up");
        let more = first.take(NODE_BYTES_MAX / 4);
        assert!(!first.has_room() && second.has_room());
        drop(little);
        drop(part);
        assert!(first.has_room());
        let much = first.take(NODE_BYTES_MAX * 2);
        assert!(!first.has_room() && second.has_room());
        drop((much, more));
        drop(second);
        let _all = first.take(NODE_BYTES_MAX - 1);
        assert!(first.has_room(), "it is the only one");
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_when_another_shard_has_less_under_way() {
        let budget = Arc::new(Budget::default());
        let [first, second, _third] = [budget.share(), budget.share(), budget.share()];
        let _own = first.take(NODE_BYTES_MAX / 2 - 1);
        let others = second.take(1);
        let waits = tokio::spawn({
            let first = first.clone();
            async move { first.wait_for_room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(others);
        waits.await.unwrap();
    }
}
