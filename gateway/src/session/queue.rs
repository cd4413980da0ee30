//! What waits to be written to one connection: bounded by bytes and items, shared pushes, no memory when empty. Whoever
//! pushes never waits.
//!
//! When a slow reader's queue is full of pushes, they are left out, with one resync in their place, and so are those that
//! come until that resync is written: the client then fetches what it has not. Answers to reads wait for room.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_proto::client::v1::{ResyncNotice, server_frame};
use tokio::sync::Notify;

use super::{CloseReason, Push};
use crate::bounds::{Budget, Charge};
use crate::metrics::{handles, refused};

/// A drained queue above this capacity gives its memory back.
const KEPT_ITEMS: usize = 8;
/// What an item beyond these takes in a queue beside its frame, in bytes.
const ITEM_BYTES: usize = size_of::<Item>();

/// One thing to write.
#[derive(Debug, Clone)]
pub enum Item {
    /// A frame that the connection's own endpoint has encoded.
    Encoded(Bytes),
    /// A push, which the endpoint encodes when it writes it.
    Push(Arc<Push>),
    /// Something may have been missed, or was left out here: the push that says so.
    Resync(Arc<Push>),
}

impl Item {
    /// What it counts in the queue, in bytes: the size of the frame that the node encoded, whatever the dialect.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Encoded(frame) => frame.len(),
            Self::Push(push) | Self::Resync(push) => push.frame().len(),
        }
    }

    /// What of it is this queue's alone: a push is there once for all its sessions, and counts itself for the process.
    fn own_bytes(&self) -> usize {
        match self {
            Self::Encoded(frame) => frame.len(),
            Self::Push(_) | Self::Resync(_) => 0,
        }
    }

    /// Whether a client that is told to resync fetches it.
    fn can_be_fetched(&self) -> bool {
        match self {
            Self::Push(push) => !push.is_notice(),
            Self::Resync(_) => true,
            Self::Encoded(_) => false,
        }
    }
}

/// A client is to fetch at once what it has not.
fn resync() -> Item {
    static RESYNC: LazyLock<Arc<Push>> = LazyLock::new(|| {
        let notice = server_frame::Body::Resync(ResyncNotice::default());
        Arc::new(Push::notice(notice))
    });
    Item::Resync(RESYNC.clone())
}

/// The outbound queue of one connection.
#[derive(Debug)]
pub struct Outbound {
    bytes_max: usize,
    items_max: usize,
    inner: Mutex<Inner>,
    changed: Notify,
    /// Told when something was taken out.
    drained: Notify,
}

#[derive(Debug)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
    /// Of these, what is in no other queue.
    own_bytes: usize,
    charge: Charge,
    /// What was drained and still waits for the socket.
    writing: Charge,
    /// A resync waits: what it makes the client fetch is left out until it is written.
    lags: bool,
    /// Somebody waits until there is room.
    wanted: bool,
    closed: Option<CloseReason>,
}

impl Outbound {
    /// An empty queue. What is in it counts in `memory`, too.
    pub fn new(bytes_max: usize, items_max: usize, memory: &Arc<Budget>) -> Self {
        Self {
            bytes_max,
            items_max,
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                bytes: 0,
                own_bytes: 0,
                charge: memory.take(0),
                writing: memory.take(0),
                lags: false,
                wanted: false,
                closed: None,
            }),
            changed: Notify::new(),
            drained: Notify::new(),
        }
    }

    /// Adds an item at the end; false if the queue is closed or the item was left out. Answers always fit, but those to
    /// reads come by [`Outbound::push_when_room`].
    pub fn push(&self, item: Item) -> bool {
        let mut inner = self.inner.lock();
        if inner.closed.is_some() || (inner.lags && item.can_be_fetched()) {
            return false;
        }
        // Whoever writes takes all that is there: it need not be told of what joins a queue.
        let first = inner.items.is_empty();
        let full = !first && !self.fits(&inner, item.bytes());
        if full {
            inner.leave_out();
        }
        let pushed = !(full && item.can_be_fetched());
        if pushed {
            inner.add(item);
        }
        // A client that sends and does not read is not read from; this is for what comes close to it.
        let flooded = inner.bytes > 2 * self.bytes_max || inner.items.len() > 2 * self.items_max;
        if flooded && !first {
            inner.close(CloseReason::TooSlow);
        }
        drop(inner);
        if first || full {
            self.changed.notify_one();
        }
        pushed
    }

    /// Adds the answer to a read when the client has taken enough of what is before it; at once when the queue is closed.
    pub async fn push_when_room(&self, item: Item) {
        loop {
            let drained = self.drained.notified();
            {
                let mut inner = self.inner.lock();
                if inner.closed.is_some() {
                    return;
                }
                let first = inner.items.is_empty();
                if first || self.fits(&inner, item.bytes()) {
                    inner.add(item);
                    drop(inner);
                    if first {
                        self.changed.notify_one();
                    }
                    return;
                }
                inner.wanted = true;
            }
            drained.await;
        }
    }

    fn fits(&self, inner: &Inner, bytes: usize) -> bool {
        inner.items.len() < self.items_max && inner.bytes + bytes <= self.bytes_max
    }

    /// Adds an item before all others: the answer to a login goes before the pushes that it allowed.
    pub fn push_first(&self, item: Item) {
        let mut inner = self.inner.lock();
        if inner.closed.is_none() {
            inner.bytes += item.bytes();
            inner.own_bytes += item.own_bytes();
            inner.items.push_front(item);
            inner.settle();
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// Hands items over in their order, until `take` wants no more or nothing is left.
    pub fn drain(&self, mut take: impl FnMut(Item) -> bool) {
        let mut inner = self.inner.lock();
        while let Some(item) = inner.items.pop_front() {
            inner.bytes -= item.bytes();
            inner.own_bytes -= item.own_bytes();
            inner.lags &= !matches!(item, Item::Resync(_));
            if !take(item) {
                break;
            }
        }
        inner.settle();
        let wanted = std::mem::take(&mut inner.wanted);
        if inner.items.is_empty() && inner.items.capacity() > KEPT_ITEMS {
            inner.items = VecDeque::new();
        }
        drop(inner);
        if wanted {
            self.drained.notify_waiters();
        }
    }

    /// Bytes that were drained and still wait for the socket count as long as this is kept.
    pub fn writing(&self, bytes: usize) -> Writing<'_> {
        let mut inner = self.inner.lock();
        // One that was cut off is about to let go of them.
        if !inner.closed.is_some_and(CloseReason::drops_queue) {
            inner.writing.add(bytes);
        }
        Writing(self)
    }

    /// Bytes that wait, in the queue or for the socket.
    pub fn bytes(&self) -> usize {
        let inner = self.inner.lock();
        inner.bytes + inner.writing.bytes()
    }

    /// Asks the connection to close; the first reason stays. What is queued is still written, except for a reader
    /// that is too slow.
    pub fn close(&self, reason: CloseReason) {
        self.inner.lock().close(reason);
        self.changed.notify_one();
        self.drained.notify_waiters();
    }

    /// Why the connection is to close, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        self.inner.lock().closed
    }

    /// Resolves after a push into an empty queue, or a close; may resolve without one.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// Drained bytes that wait for the socket; a connection writes one lot at a time.
#[derive(Debug)]
pub struct Writing<'a>(&'a Outbound);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().writing.clear();
    }
}

impl Inner {
    fn add(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.own_bytes += item.own_bytes();
        self.lags |= matches!(item, Item::Resync(_));
        self.items.push_back(item);
        self.settle();
    }

    /// Takes from the budget of the process what this queue takes beyond the memory that it always keeps: nothing, while
    /// few pushes wait.
    fn settle(&mut self) {
        let slots = self.items.len().saturating_sub(KEPT_ITEMS);
        self.charge.set(self.own_bytes + slots * ITEM_BYTES);
    }

    /// Leaves out what the client can fetch, with a resync in its place.
    fn leave_out(&mut self) {
        if self.lags {
            return;
        }
        refused("outbound_session");
        handles().resyncs.increment(1);
        let mut bytes = 0;
        self.items.retain(|item| {
            let stays = !item.can_be_fetched();
            if !stays {
                bytes += item.bytes(); // of pushes, which are no queue's own
            }
            stays
        });
        self.bytes -= bytes;
        self.add(resync());
    }

    fn close(&mut self, reason: CloseReason) {
        if self.closed.is_none() {
            self.closed = Some(reason);
        }
        if reason.drops_queue() {
            (self.bytes, self.own_bytes) = (0, 0);
            self.charge.clear();
            // Its writer ends on its own; whoever makes room must not look for others until then.
            self.writing.clear();
            self.items = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests;
