//! What waits on all links of a node together, in bytes: a node whose gateways do not read holds no more for many of them than
//! for one. When it is too much, links that hold more than their share are closed, those with the most first. A link within its
//! share never is, whatever others do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::totals::{Part, Total};

/// Bytes that wait or are unacknowledged, soft, while the next read of a link may add its answer.
const READ_HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The budget of all links of a node.
#[derive(Debug)]
pub(super) struct Held {
    total: Arc<Total>,
    max: usize,
    links: AtomicUsize,
    exceeded: Notify,
}

impl Held {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            total: Total::new(max),
            max,
            links: AtomicUsize::new(1),
            exceeded: Notify::new(),
        })
    }

    /// What a link holds; nothing yet.
    pub(super) fn part(&self) -> Part {
        self.total.part()
    }

    /// So many links share it.
    pub(super) fn shared_by(&self, links: usize) {
        self.links.store(links.max(1), Ordering::Relaxed);
    }

    /// What a link may hold whatever the others do.
    pub(super) fn share(&self) -> usize {
        self.max / self.links.load(Ordering::Relaxed)
    }

    /// Above so much, reads of a link wait: answers alone are never too much.
    pub(super) fn room_for_reads(&self) -> usize {
        READ_HELD_BYTES_MAX.min(self.share() / 2)
    }

    /// Bytes that all links hold.
    pub(super) fn used(&self) -> usize {
        self.total.used()
    }

    /// Bytes that all links hold and should not.
    pub(super) fn excess(&self) -> usize {
        self.used().saturating_sub(self.max)
    }

    /// Something was added: tells whoever waits for it if that was too much.
    pub(super) fn added(&self) {
        if self.excess() > 0 {
            self.exceeded.notify_one();
        }
    }

    /// Resolves when it is too much; may resolve when that is over already.
    pub(super) async fn exceeded(&self) {
        self.exceeded.notified().await;
    }
}
