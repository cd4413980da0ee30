//! Which links want the events of which users, on the leader of their home shard. In memory, for one leadership.
//!
//! A leader is *open* once it has taken a relay. A gateway that says all its topics before that has missed nothing
//! (`seamless`); one that comes later must let its sessions resync.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout_at};

use crate::link::{LinkSession, Links};

/// How long a new leader waits for the gateways that are linked to it to say their topics.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(1000);

/// App and user.
pub type UserTopic = (String, String);

/// The subscriptions of one shard's leader.
#[derive(Default)]
pub struct Topics {
    inner: Mutex<Inner>,
    said: Notify,
}

#[derive(Default)]
struct Inner {
    term: u64,
    open: bool,
    settle_until: Option<Instant>,
    complete: HashSet<u64>,
    links: HashMap<UserTopic, Vec<Arc<LinkSession>>>,
}

impl Topics {
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

    /// Waits, once in a leadership and briefly, until every linked gateway has said its topics; then it is open.
    pub async fn settle(&self, term: u64, links: &Links) {
        loop {
            let said = self.said.notified();
            let deadline = {
                let mut inner = self.inner.lock();
                inner.enter(term);
                if inner.open {
                    return;
                }
                let deadline = *inner
                    .settle_until
                    .get_or_insert_with(|| Instant::now() + SETTLE_TIMEOUT);
                if links.keys().iter().all(|key| inner.complete.contains(key))
                    || Instant::now() >= deadline
                {
                    inner.open = true;
                    return;
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
