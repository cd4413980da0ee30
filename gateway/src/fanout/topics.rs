//! The users of one shard that this gateway is subscribed to, with reference counts, and what may have been missed for
//! each. Pure: `shard.rs` does the asking.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::session::User;

/// A subscription without sessions is kept this long: clients come back.
const LINGER: Duration = Duration::from_secs(5);

/// The subscriptions in one shard.
#[derive(Debug, Default)]
pub(super) struct Topics {
    topics: HashMap<User, Topic>,
    /// Users that the leader has not been told of.
    fresh: Vec<User>,
    /// Users whose slot has moved to another shard.
    moved: Vec<User>,
    /// Users without sessions, and since when.
    idle: VecDeque<(Instant, User)>,
}

/// One user.
#[derive(Debug, Default)]
pub(super) struct Topic {
    sessions: usize,
    state: State,
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// No leader pushes to us, and none has.
    #[default]
    New,
    /// The leader pushes to us.
    Active,
    /// A leader before did: nothing is missed if the next one took no event before it knew us.
    Unsure,
    /// Something may have been missed whatever the next leader says.
    Missed,
}

impl Topics {
    /// One more session of the user; true if the leader is to be told. The waiter hears when it has been.
    pub(super) fn acquire(&mut self, user: &User, waiter: oneshot::Sender<()>) -> bool {
        let known = self.topics.contains_key(user);
        let topic = self.topics.entry(user.clone()).or_default();
        topic.sessions += 1;
        if topic.state == State::Active {
            let _ = waiter.send(());
            return false;
        }
        topic.waiting.push(waiter);
        if !known {
            self.fresh.push(user.clone());
        }
        true
    }

    /// One session of the user less; true if the first idle subscription begins to linger.
    pub(super) fn release(&mut self, user: &User, now: Instant) -> bool {
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

    /// The leader that knew the users is left. A login waits until the next one knows them.
    pub(super) fn leave(&mut self) {
        self.raise(State::Active, State::Unsure);
    }

    /// The link to a leader that knew these users was lost: what it had for us may be lost with it.
    pub(super) fn miss(&mut self) {
        self.raise(State::Active, State::Missed);
    }

    fn raise(&mut self, from: State, to: State) {
        for topic in self.topics.values_mut() {
            if topic.state >= from {
                topic.state = topic.state.max(to);
            }
        }
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

    /// The leader was not told of these after all: it will be of those that are still here.
    pub(super) fn put_back(&mut self, users: Vec<User>) {
        let here = users.into_iter().filter(|u| self.topics.contains_key(u));
        self.fresh.extend(here);
    }

    /// Users that the shard's leader may forget: they are another shard's now.
    pub(super) fn take_moved(&mut self) -> Vec<User> {
        std::mem::take(&mut self.moved)
    }

    /// The leader has these subscriptions. Returns who is to resync: who may have missed something, and, unless the
    /// change to this leader was seamless, who was subscribed before.
    pub(super) fn activate(&mut self, users: &[User], seamless: bool) -> Vec<User> {
        let mut resync = Vec::new();
        for user in users {
            let Some(topic) = self.topics.get_mut(user) else {
                continue;
            };
            let missed =
                topic.state == State::Missed || (topic.state == State::Unsure && !seamless);
            topic.state = State::Active;
            for waiter in std::mem::take(&mut topic.waiting) {
                let _ = waiter.send(());
            }
            if missed {
                resync.push(user.clone());
            }
        }
        resync
    }

    /// Users whose events the leader pushes.
    pub(super) fn active(&self) -> Vec<User> {
        let active = self.topics.iter().filter(|(_, t)| t.state == State::Active);
        active.map(|(user, _)| user.clone()).collect()
    }

    /// Takes out users that are another shard's now; `stays` says who is not.
    pub(super) fn move_out(&mut self, stays: impl Fn(&User) -> bool) -> Vec<(User, Topic)> {
        let out: Vec<_> = self.topics.extract_if(|user, _| !stays(user)).collect();
        if !out.is_empty() {
            self.fresh.retain(&stays);
            self.idle.retain(|(_, user)| stays(user));
            self.moved.extend(out.iter().map(|(user, _)| user.clone()));
        }
        out
    }

    /// Takes over a user of another shard: what its leader pushed is not yet pushed by ours.
    pub(super) fn move_in(&mut self, user: User, mut topic: Topic, now: Instant) {
        if topic.state == State::Active {
            topic.state = State::Unsure;
        }
        if topic.sessions == 0 {
            self.idle.push_back((now, user.clone()));
        }
        self.fresh.push(user.clone());
        self.topics.insert(user, topic);
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
mod tests;
