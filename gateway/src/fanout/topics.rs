//! Which users this gateway is subscribed to, by home shard, with reference counts. The first session of a user
//! waits until the shard's leader has the subscription; after the last one it ends, a little later.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::shard;
use crate::link::route::Router;
use crate::session::User;
use crate::session::registry::Registry;

/// A subscription without sessions is kept this long: clients come back.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// All subscriptions of this gateway.
#[derive(Debug, Default)]
pub struct Topics {
    shards: RwLock<Vec<Arc<ShardTopics>>>,
}

/// The subscriptions in one shard.
#[derive(Debug, Default)]
pub(super) struct ShardTopics {
    pub(super) inner: Mutex<Inner>,
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    topics: HashMap<User, Topic>,
    /// Users that the leader has not been told of.
    fresh: Vec<User>,
    /// Users without sessions, and since when.
    idle: VecDeque<(Instant, User)>,
}

#[derive(Debug, Default)]
struct Topic {
    sessions: usize,
    active: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Topics {
    /// Starts one task per shard, which tells each new leader what is subscribed.
    pub fn start(
        &self,
        shard_count: u32,
        router: &Arc<Router>,
        registry: &Arc<Registry>,
    ) -> Vec<tokio::task::AbortHandle> {
        let shards: Vec<_> = (0..shard_count)
            .map(|_| Arc::new(ShardTopics::default()))
            .collect();
        self.shards.write().clone_from(&shards);
        let tasks = shards.into_iter().zip(0..);
        tasks
            .map(|(topics, shard)| {
                tokio::spawn(shard::run(shard, topics, router.clone(), registry.clone()))
                    .abort_handle()
            })
            .collect()
    }

    /// One more session of the user. Resolves when the leader has the subscription; fails if this gateway does
    /// not know the cluster. Whoever gives up waiting still calls [`Topics::release`].
    pub fn acquire(&self, shard: u32, user: &User) -> Option<oneshot::Receiver<()>> {
        let topics = self.shards.read().get(shard as usize)?.clone();
        let (sender, receiver) = oneshot::channel();
        if topics.inner.lock().acquire(user, sender) {
            topics.changed.notify_one();
        }
        Some(receiver)
    }

    /// One session of the user less.
    pub fn release(&self, shard: u32, user: &User) {
        let Some(topics) = self.shards.read().get(shard as usize).cloned() else {
            return;
        };
        if topics.inner.lock().release(user, Instant::now()) {
            topics.changed.notify_one();
        }
    }
}

impl Inner {
    fn acquire(&mut self, user: &User, waiter: oneshot::Sender<()>) -> bool {
        let known = self.topics.contains_key(user);
        let topic = self.topics.entry(user.clone()).or_default();
        topic.sessions += 1;
        if topic.active {
            let _ = waiter.send(());
            return false;
        }
        topic.waiting.push(waiter);
        if !known {
            self.fresh.push(user.clone());
        }
        true
    }

    fn release(&mut self, user: &User, now: Instant) -> bool {
        let Some(topic) = self.topics.get_mut(user) else {
            return false;
        };
        topic.sessions = topic.sessions.saturating_sub(1);
        if topic.sessions > 0 {
            return false;
        }
        self.idle.push_back((now, user.clone()));
        self.idle.len() == 1
    }

    /// A new leader or link session: until it knows all topics, a login waits. Returns who was active.
    pub(super) fn deactivate(&mut self) -> Vec<User> {
        let deactivate = |(user, topic): (&User, &mut Topic)| {
            std::mem::take(&mut topic.active).then(|| user.clone())
        };
        self.topics.iter_mut().filter_map(deactivate).collect()
    }

    /// Users whose events the leader pushes.
    pub(super) fn active(&self) -> Vec<User> {
        let active = self.topics.iter().filter(|(_, topic)| topic.active);
        active.map(|(user, _)| user.clone()).collect()
    }

    /// All users, for a complete subscription.
    pub(super) fn all(&mut self) -> Vec<User> {
        self.fresh = Vec::new();
        self.topics.keys().cloned().collect()
    }

    /// Users to subscribe in addition.
    pub(super) fn take_fresh(&mut self) -> Vec<User> {
        std::mem::take(&mut self.fresh)
    }

    /// The leader has these subscriptions.
    pub(super) fn activate(&mut self, users: &[User]) {
        for user in users {
            let Some(topic) = self.topics.get_mut(user) else {
                continue;
            };
            topic.active = true;
            for waiter in std::mem::take(&mut topic.waiting) {
                let _ = waiter.send(());
            }
        }
    }

    /// When the next idle subscription ends.
    pub(super) fn next_idle(&self) -> Option<Instant> {
        self.idle.front().map(|(since, _)| *since + LINGER)
    }

    /// Forgets users that have been without sessions for long enough.
    pub(super) fn take_idle(&mut self, now: Instant) -> Vec<User> {
        let mut ended = Vec::new();
        while self
            .idle
            .front()
            .is_some_and(|(since, _)| *since + LINGER <= now)
        {
            let Some((_, user)) = self.idle.pop_front() else {
                break;
            };
            if self.topics.get(&user).is_some_and(|t| t.sessions == 0) {
                self.topics.remove(&user);
                self.fresh.retain(|u| *u != user);
                ended.push(user);
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_session_subscribes_and_the_last_one_ends_it_later() {
        let mut inner = Inner::default();
        let user = User {
            app_id: "demo".into(),
            user_id: "alice".into(),
        };
        let (waiter, mut told) = oneshot::channel();
        assert!(inner.acquire(&user, waiter));
        assert_eq!(inner.take_fresh(), std::slice::from_ref(&user));
        assert!(told.try_recv().is_err());
        inner.activate(std::slice::from_ref(&user));
        assert!(told.try_recv().is_ok());
        let (waiter, mut told) = oneshot::channel();
        assert!(
            !inner.acquire(&user, waiter),
            "a second session needs nothing new"
        );
        assert!(told.try_recv().is_ok());
        let now = Instant::now();
        assert!(!inner.release(&user, now));
        assert!(inner.release(&user, now));
        assert!(inner.take_idle(now).is_empty());
        assert_eq!(inner.take_idle(now + LINGER), [user]);
        assert!(inner.topics.is_empty());
    }
}
