//! In which order a home shard's leader pushes what is relayed to it.
//!
//! What needs no write goes at once. What has to be written into a list first is *late*: lists are written beside each
//! other, and then pushed as they were relayed. What comes meanwhile for the same entry of a list is late too, so it does not
//! overtake what was relayed before it. Of those that wait for an entry one writes it, for all of them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{MutexGuard, Notify};

use super::UserTopic;

/// The order of one shard's pushes.
#[derive(Default)]
pub struct PushOrder {
    turn: tokio::sync::Mutex<()>,
    late: Mutex<Late>,
    keys: RandomState,
}

#[derive(Default)]
struct Late {
    next: u64,
    /// Told when they are the first.
    places: BTreeMap<u64, Arc<Notify>>,
    entries: HashMap<u64, Waiting>,
}

/// For one entry.
#[derive(Default)]
struct Waiting {
    places: usize,
    /// The place that writes it at the moment.
    writer: Option<u64>,
}

/// A place among those that are late, until dropped.
pub struct LatePlace<'a> {
    order: &'a PushOrder,
    number: u64,
    is_first: Arc<Notify>,
    entries: Vec<u64>,
}

impl PushOrder {
    /// Who has this pushes at once, or lines up; the next ones in the order in which they asked.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A conversation in a user's list. Two may be the same number: then one waits for the other in vain.
    pub fn entry(&self, user: &UserTopic, conversation: &str) -> u64 {
        self.keys.hash_one((user, conversation))
    }

    /// Whether something waits for this entry.
    pub fn is_late(&self, entry: u64) -> bool {
        self.late.lock().entries.contains_key(&entry)
    }

    /// How many are in line.
    #[cfg(test)]
    pub(crate) fn in_line(&self) -> usize {
        self.late.lock().places.len()
    }

    /// Lines up behind all that are late, with something for these entries; writes those that nobody in line is writing.
    /// Asked for during one's turn.
    pub fn line_up(&self, entries: Vec<u64>) -> LatePlace<'_> {
        let mut late = self.late.lock();
        let number = late.next;
        late.next += 1;
        let is_first = Arc::new(Notify::new());
        if late.places.is_empty() {
            is_first.notify_one();
        }
        late.places.insert(number, is_first.clone());
        for entry in &entries {
            let waiting = late.entries.entry(*entry).or_default();
            waiting.places += 1;
            waiting.writer.get_or_insert(number);
        }
        LatePlace {
            order: self,
            number,
            is_first,
            entries,
        }
    }
}

impl LatePlace<'_> {
    /// Waits for all that lined up before.
    pub async fn first(&self) {
        self.is_first.notified().await;
    }

    /// Whether it is this one that writes the entry.
    pub fn writes(&self, entry: u64) -> bool {
        let late = self.order.late.lock();
        let waiting = late.entries.get(&entry);
        waiting.is_some_and(|waiting| waiting.writer == Some(self.number))
    }

    /// What it wrote is written, or cannot be: who lines up now for the same entries looks and writes anew.
    pub fn has_written(&self) {
        let mut late = self.order.late.lock();
        for entry in &self.entries {
            if let Some(waiting) = late.entries.get_mut(entry) {
                waiting.end_of(self.number);
            }
        }
    }
}

impl Waiting {
    fn end_of(&mut self, writer: u64) {
        self.writer = self.writer.filter(|number| *number != writer);
    }
}

impl Drop for LatePlace<'_> {
    fn drop(&mut self) {
        let mut late = self.order.late.lock();
        for entry in &self.entries {
            if let Some(waiting) = late.entries.get_mut(entry) {
                waiting.end_of(self.number);
                waiting.places -= 1;
                if waiting.places == 0 {
                    late.entries.remove(entry);
                }
            }
        }
        late.places.remove(&self.number);
        if let Some((_, first)) = late.places.first_key_value() {
            first.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn who_is_late_comes_in_order_and_who_gives_up_holds_up_nobody() {
        let order = PushOrder::default();
        let [first, second, third] = [vec![1, 2], vec![2], vec![3]].map(|of| order.line_up(of));
        assert!(second.first().now_or_never().is_none());
        drop(second);
        assert!(third.first().now_or_never().is_none());
        assert!(order.is_late(2) && order.is_late(3) && !order.is_late(4));
        assert!(first.first().now_or_never().is_some());
        drop(first);
        assert!(!order.is_late(1) && !order.is_late(2));
        assert!(third.first().now_or_never().is_some());
        drop(third);
        let alone = order.line_up(vec![]);
        assert!(alone.first().now_or_never().is_some());
    }

    #[test]
    fn of_those_that_wait_for_an_entry_one_writes_it() {
        let order = PushOrder::default();
        let [first, second, third] = [vec![1], vec![1, 2], vec![2]].map(|of| order.line_up(of));
        assert!(first.writes(1) && !first.writes(2));
        assert!(second.writes(2) && !second.writes(1) && !third.writes(2));
        first.has_written();
        let fourth = order.line_up(vec![1]);
        assert!(fourth.writes(1) && !first.writes(1) && !second.writes(1));
        drop(fourth);
        let fifth = order.line_up(vec![1]);
        assert!(fifth.writes(1), "who gives up writes no longer");
        drop(first);
        assert!(fifth.writes(1) && order.is_late(1));
    }
}
