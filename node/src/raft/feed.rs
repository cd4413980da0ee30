//! How a leader feeds followers by snapshot, and what of the log it keeps for them.
//!
//! While a snapshot is on its way to a follower, and until that follower has caught up with the log, no newer snapshot is
//! made: the library purges only behind the newest one, so what the follower needs next stays. A follower that no longer
//! comes nearer is given up, and may get another snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::config::CAUGHT_UP_ENTRIES;
use super::metrics;
use super::shard_rows::ShardRows;
use ::metrics::Gauge;
use parking_lot::Mutex;
use parlance_proto::ids::NodeId;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A follower that has not come nearer for this long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A shard's feeding of followers.
pub(super) struct Feed {
    pub(super) rows: Arc<ShardRows>,
    /// Counts all that this node sends.
    under_way: Gauge,
    /// Whoever has this sends: one snapshot at a time.
    pub(super) sending: tokio::sync::Mutex<()>,
    /// A follower is being fed: someone has to look after it.
    pub(super) begun: Notify,
    /// What the library takes for a snapshot from the start. One that goes no further is none to it: nothing is purged for it.
    begins: AtomicU64,
    /// Index up to which the newest finished snapshot goes.
    made: AtomicU64,
    /// A snapshot was not made because of a follower.
    deferred: AtomicBool,
    fed: Mutex<Fed>,
}

#[derive(Default)]
struct Fed {
    /// Index of the newest snapshot whose making has begun.
    making: u64,
    followers: HashMap<NodeId, Stage>,
}

#[derive(Clone, Copy)]
enum Stage {
    Receiving,
    /// Entries that it was behind when it was nearest, and since when.
    CatchingUp(u64, Instant),
}

impl Feed {
    /// Of a shard on this node.
    pub(super) fn new(node: NodeId, rows: Arc<ShardRows>) -> Arc<Self> {
        Arc::new(Self {
            rows,
            under_way: metrics::snapshots_sending(node),
            sending: tokio::sync::Mutex::default(),
            begun: Notify::new(),
            begins: AtomicU64::new(0),
            made: AtomicU64::new(0),
            deferred: AtomicBool::new(false),
            fed: Mutex::default(),
        })
    }

    /// Whether a snapshot up to `index` may be made now; if not, it is due once nobody is fed any more.
    pub(super) fn may_make(&self, index: u64) -> bool {
        let mut fed = self.fed.lock();
        if fed.followers.is_empty() {
            fed.making = fed.making.max(index);
            return true;
        }
        self.deferred.store(true, Ordering::Relaxed);
        false
    }

    /// A replica starts with rows that go up to `index`, once it has applied what it knows to be committed.
    pub(super) fn begins_at(&self, index: u64) {
        self.begins.store(index, Ordering::Relaxed);
    }

    /// Whether an entry was not known to be committed when the replica was started.
    pub(super) fn is_new(&self, index: u64) -> bool {
        index > self.begins.load(Ordering::Relaxed)
    }

    pub(super) fn made(&self, index: u64) {
        if self.is_new(index) {
            self.made.fetch_max(index, Ordering::Relaxed);
        }
    }

    /// Index up to which the newest snapshot made since the start goes; 0 if there is none.
    pub(super) fn newest_made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Begins to feed a follower with a snapshot that goes up to `index` or further; none if the log may be purged
    /// behind that already.
    pub(super) fn begin(self: &Arc<Self>, node: NodeId, index: u64) -> Option<Feeding> {
        let mut fed = self.fed.lock();
        if fed.making > index {
            return None;
        }
        fed.followers.insert(node, Stage::Receiving);
        self.under_way.increment(1);
        self.begun.notify_one();
        Some(Feeding {
            feed: self.clone(),
            node,
            delivered: false,
        })
    }

    pub(super) fn is_fed(&self, node: NodeId) -> bool {
        self.fed.lock().followers.contains_key(&node)
    }

    pub(super) fn feeds_nobody(&self) -> bool {
        self.fed.lock().followers.is_empty()
    }

    /// Lets go of followers that have caught up or never will. `matched` is what each has of the log that ends at
    /// `last`; empty if this replica does not lead. Answers whether a snapshot is due that was put off.
    pub(super) fn review(&self, matched: &BTreeMap<NodeId, u64>, last: u64, now: Instant) -> bool {
        let mut fed = self.fed.lock();
        fed.followers.retain(|node, stage| {
            let Stage::CatchingUp(nearest, since) = stage else {
                return true;
            };
            let Some(matched) = matched.get(node) else {
                return false;
            };
            let behind = last.saturating_sub(*matched);
            if behind < *nearest {
                (*nearest, *since) = (behind, now);
            } else if now.duration_since(*since) > PATIENCE {
                tracing::warn!(
                    shard = %self.rows.shard,
                    %node,
                    behind,
                    "a replica does not catch up after its snapshot"
                );
                return false;
            }
            behind > CAUGHT_UP_ENTRIES
        });
        fed.followers.is_empty() && self.deferred.swap(false, Ordering::Relaxed)
    }
}

/// A snapshot on its way; dropped undelivered, the follower is let go.
pub(super) struct Feeding {
    feed: Arc<Feed>,
    node: NodeId,
    delivered: bool,
}

impl Feeding {
    /// The follower has installed it, and goes on with the log.
    pub(super) fn delivered(mut self) {
        self.delivered = true;
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.feed.under_way.decrement(1);
        let mut fed = self.feed.fed.lock();
        if self.delivered {
            let stage = Stage::CatchingUp(u64::MAX, Instant::now());
            fed.followers.insert(self.node, stage);
        } else {
            fed.followers.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::ids::ShardId;

    use super::*;
    use crate::store::faulty::FaultyStore;

    const TWO: NodeId = NodeId(2);
    const THREE: NodeId = NodeId(3);

    fn feed() -> Arc<Feed> {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(FaultyStore::open(dir.path()));
        Feed::new(TWO, ShardRows::new(ShardId(1), store, Arc::default()))
    }

    #[test]
    fn the_log_is_kept_until_the_follower_has_caught_up() {
        let feed = feed();
        assert!(feed.may_make(100));
        assert!(feed.begin(TWO, 99).is_none(), "purged behind it, perhaps");
        let feeding = feed.begin(TWO, 100).unwrap();
        assert!(!feed.may_make(200));
        feeding.delivered();
        let now = Instant::now();
        assert!(!feed.review(&[(TWO, 100)].into(), 10_000, now));
        assert!(!feed.may_make(10_000));
        assert!(
            feed.review(&[(TWO, 9_950)].into(), 10_000, now),
            "now it is due"
        );
        assert!(feed.may_make(10_000));
    }

    #[test]
    fn a_follower_that_comes_no_nearer_is_given_up() {
        let feed = feed();
        feed.begin(TWO, 0).unwrap().delivered();
        feed.begin(THREE, 0).unwrap().delivered();
        for step in 1..=10 {
            let now = Instant::now() + PATIENCE / 5 * step as u32;
            feed.review(
                &[(TWO, step), (THREE, 110 * step)].into(),
                1_000 + 10 * step,
                now,
            );
        }
        assert!(!feed.is_fed(TWO), "it comes no nearer");
        assert!(!feed.is_fed(THREE), "it has caught up");
        drop(feed.begin(TWO, 0));
        assert!(feed.feeds_nobody(), "one that failed holds nothing");
    }
}
