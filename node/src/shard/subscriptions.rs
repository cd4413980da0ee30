//! Which links want the events of which users, on the leader of their home shard. In memory, for one leadership.
//!
//! A leader is *open* once it has taken a relay. A gateway that says all its topics before that has missed nothing
//! (`seamless`); one that comes later must let its sessions resync.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use parlance_proto::ids::{AppId, UserId};
use parlance_proto::slot::Slot;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout_at};

use crate::apply::OwnedRange;
use crate::link::{LinkSession, Links};

/// How long a new leader waits for the gateways that are linked to it to say their topics.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(1000);

/// App and user.
pub type UserTopic = (AppId, UserId);

/// The subscriptions of one shard's leader.
#[derive(Default)]
pub struct Subscriptions {
    inner: Mutex<Inner>,
    said: Notify,
    splits: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    term: u64,
    open: bool,
    settle_until: Option<Instant>,
    complete: HashSet<u64>,
    links: HashMap<UserTopic, Vec<Arc<LinkSession>>>,
}

/// While it lives a split is under way.
pub(super) struct PendingSplit(Arc<Subscriptions>);

impl Drop for PendingSplit {
    fn drop(&mut self) {
        self.0.splits.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Subscriptions {
    /// The leadership of a term ended: all of it is forgotten, links subscribe to the next leader.
    pub fn clear(&self, term: u64) {
        let mut inner = self.inner.lock();
        if inner.term <= term {
            *inner = Inner {
                term,
                ..Inner::default()
            };
        }
    }

    /// Users whose slots have moved are somebody else's now.
    pub(super) fn keep(&self, range: &OwnedRange) {
        let mut inner = self.inner.lock();
        inner
            .links
            .retain(|(app, user), _| range.contains(Slot::of_user(app, user)));
    }

    pub(super) fn split_begins(self: &Arc<Self>) -> PendingSplit {
        self.splits.fetch_add(1, Ordering::SeqCst);
        PendingSplit(self.clone())
    }

    /// Whether a split is proposed whose outcome is not known yet.
    pub fn is_splitting(&self) -> bool {
        self.splits.load(Ordering::SeqCst) > 0
    }

    /// A link wants these topics; with `complete` they are all it has here. Answers whether nothing was missed.
    pub fn subscribe(
        &self,
        term: u64,
        link: &Arc<LinkSession>,
        topics: Vec<UserTopic>,
        complete: bool,
    ) -> bool {
        let mut inner = self.inner.lock();
        inner.enter(term);
        if complete {
            inner.forget(link.key());
        }
        for topic in topics {
            let links = inner.links.entry(topic).or_default();
            links.retain(|known| !known.is_closed());
            if !links.iter().any(|known| known.key() == link.key()) {
                links.push(link.clone());
            }
        }
        if complete {
            inner.complete.insert(link.key());
        }
        let seamless = !inner.open;
        drop(inner);
        self.said.notify_waiters();
        seamless
    }

    /// A link wants these topics no more.
    pub fn unsubscribe(&self, link: &Arc<LinkSession>, topics: &[UserTopic]) {
        let mut inner = self.inner.lock();
        for topic in topics {
            if let Some(links) = inner.links.get_mut(topic) {
                links.retain(|known| known.key() != link.key() && !known.is_closed());
                if links.is_empty() {
                    inner.links.remove(topic);
                }
            }
        }
    }

    /// Links that are gone want nothing any more.
    pub fn forget_closed(&self) {
        let links = &mut self.inner.lock().links;
        links.retain(|_, links| {
            links.retain(|link| !link.is_closed());
            !links.is_empty()
        });
        links.shrink_to(links.len() * 2);
    }

    /// Whether the leader of this term has taken relays.
    pub fn is_open(&self, term: u64) -> bool {
        let inner = self.inner.lock();
        inner.open && inner.term == term
    }

    /// Waits, once in a leadership and briefly, until every linked gateway has said its topics; then it is open. False if the
    /// leadership is over.
    pub async fn settle(&self, term: u64, links: &Links) -> bool {
        loop {
            let said = self.said.notified();
            let deadline = {
                let mut inner = self.inner.lock();
                inner.enter(term);
                if inner.term != term {
                    return false;
                }
                if inner.open {
                    return true;
                }
                let deadline = *inner
                    .settle_until
                    .get_or_insert_with(|| Instant::now() + SETTLE_TIMEOUT);
                if links.keys().iter().all(|key| inner.complete.contains(key))
                    || Instant::now() >= deadline
                {
                    inner.open = true;
                    return true;
                }
                deadline
            };
            let _ = timeout_at(deadline, said).await;
        }
    }

    /// The links that want a topic.
    pub fn links(&self, topic: &UserTopic) -> Vec<Arc<LinkSession>> {
        let mut inner = self.inner.lock();
        let Some(links) = inner.links.get_mut(topic) else {
            return Vec::new();
        };
        links.retain(|link| !link.is_closed());
        let wanting = links.clone();
        if links.is_empty() {
            inner.links.remove(topic);
        }
        wanting
    }
}

impl Inner {
    fn forget(&mut self, key: u64) {
        self.links.retain(|_, links| {
            links.retain(|link| link.key() != key);
            !links.is_empty()
        });
    }

    /// What was subscribed to in an earlier term does not count in this one.
    fn enter(&mut self, term: u64) {
        if term > self.term {
            *self = Self {
                term,
                ..Self::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_links_that_are_gone_are_forgotten_though_nobody_asks_for_them() {
        let subscriptions = Subscriptions::default();
        let topic = |user: &str| (AppId::new("demo").unwrap(), UserId::new(user).unwrap());
        let [open, closed] = crate::link::open_and_closed();
        subscriptions.subscribe(1, &open, vec![topic("alice")], false);
        subscriptions.subscribe(1, &closed, vec![topic("alice"), topic("bob")], false);
        subscriptions.forget_closed();
        let left: Vec<UserTopic> = subscriptions.inner.lock().links.keys().cloned().collect();
        assert_eq!(left, [topic("alice")]);
        assert_eq!(subscriptions.links(&topic("alice")).len(), 1);
    }
}
