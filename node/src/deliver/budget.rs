//! What all shards of a node together may have under way to gateways, divided over those that it leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of items under way, soft, for the node: what stuck receivers hold up stays in memory.
const NODE_BYTES_MAX: usize = 64 << 20;
/// The same in items.
const NODE_ITEMS_MAX: usize = 256 * 1024;

/// Shared by all shards of a node.
#[derive(Default)]
pub(super) struct Budget {
    shards: AtomicUsize,
}

/// One shard's part, while it lives.
pub(super) struct Share(Arc<Budget>);

impl Budget {
    /// One more shard delivers.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        self.shards.fetch_add(1, Ordering::Relaxed);
        Share(self.clone())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.shards.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    /// Whether there is room for one more, beside so many.
    pub(super) fn has_room(&self, items: usize, bytes: usize) -> bool {
        let shards = self.0.shards.load(Ordering::Relaxed).max(1);
        items < NODE_ITEMS_MAX / shards && bytes < NODE_BYTES_MAX / shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_what_the_node_has() {
        let budget = Arc::new(Budget::default());
        let first = budget.share();
        assert!(first.has_room(0, NODE_BYTES_MAX - 1));
        let second = budget.share();
        assert!(!first.has_room(0, NODE_BYTES_MAX / 2) && second.has_room(9, 0));
        drop(second);
        assert!(first.has_room(0, NODE_BYTES_MAX / 2));
    }
}
