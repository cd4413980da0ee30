//! Local sessions by user, and all connections of this process.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use parlance_proto::ids::{AppId, UserId};
use parlance_proto::link::v1::{ListSessions, ListSessionsResult};
use uuid::Uuid;

use super::{CloseReason, Session, User, roll};
use crate::metrics::handles;

type Users = HashMap<UserId, Vec<Arc<Session>>>;

/// Who is connected here.
#[derive(Debug, Default)]
pub struct Registry {
    apps: RwLock<HashMap<AppId, Users>>,
    connections: RwLock<BTreeMap<Uuid, Arc<Session>>>,
}

impl Registry {
    /// A connection was accepted.
    pub fn connected(&self, session: &Arc<Session>) {
        self.connections.write().insert(session.id, session.clone());
        handles().open.increment(1);
    }

    /// A connection ended.
    pub fn disconnected(&self, session: &Session) {
        if self.connections.write().remove(&session.id).is_some() {
            handles().open.decrement(1);
        }
    }

    /// All connections, logged in or not.
    pub fn connections(&self) -> Vec<Arc<Session>> {
        self.connections.read().values().cloned().collect()
    }

    /// Cuts those off that have the most waiting, until that makes up for `bytes`. How many they were.
    pub fn cut_off_largest(&self, bytes: usize) -> usize {
        let mut largest: Vec<_> = {
            let connections = self.connections.read();
            let waiting = connections.values().map(|s| (s.outbound.bytes(), s.id));
            waiting.filter(|(bytes, _)| *bytes > 0).collect()
        };
        largest.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let (mut freed, mut cut_off) = (0, 0);
        for (waiting, id) in largest {
            if freed >= bytes {
                break;
            }
            let session = self.connections.read().get(&id).cloned();
            if let Some(session) = session {
                session.outbound.close(CloseReason::CutOff);
                (freed, cut_off) = (freed + waiting, cut_off + 1);
            }
        }
        cut_off
    }

    /// The sessions of a user beyond the newest `max`.
    pub fn beyond(&self, user: &User, max: usize) -> Vec<Arc<Session>> {
        let apps = self.apps.read();
        let sessions = apps.get(&user.app).and_then(|users| users.get(&user.id));
        let sessions = sessions.map_or(&[][..], Vec::as_slice);
        sessions[..sessions.len().saturating_sub(max)].to_vec()
    }

    /// Pushes for the user reach this session from now on.
    pub fn add(&self, user: &User, session: &Arc<Session>) {
        let mut apps = self.apps.write();
        let sessions = apps
            .entry(user.app.clone())
            .or_default()
            .entry(user.id.clone())
            .or_default();
        if sessions.is_empty() {
            sessions.reserve_exact(1);
        }
        sessions.push(session.clone());
        handles().sessions.increment(1);
    }

    /// Pushes for the user no longer reach this session.
    pub fn remove(&self, user: &User, session: &Session) {
        let mut apps = self.apps.write();
        let Some(users) = apps.get_mut(&user.app) else {
            return;
        };
        let Some(sessions) = users.get_mut(&user.id) else {
            return;
        };
        let before = sessions.len();
        sessions.retain(|s| s.id != session.id);
        handles()
            .sessions
            .decrement((before - sessions.len()) as f64);
        if sessions.is_empty() {
            users.remove(&user.id);
        }
        if users.is_empty() {
            apps.remove(&user.app);
        }
    }

    /// One page of the sessions, for operators.
    pub fn page(&self, ask: &ListSessions) -> ListSessionsResult {
        roll::page(&self.connections.read(), ask)
    }

    /// The local sessions of an app's users.
    pub fn of_app(&self, app: &AppId) -> Vec<Arc<Session>> {
        let apps = self.apps.read();
        let users = apps.get(app).into_iter().flatten();
        users.flat_map(|(_, sessions)| sessions).cloned().collect()
    }

    /// Calls `each` for the local sessions of a user. Takes texts: what is not an id has no sessions.
    pub fn for_each(&self, app: &str, user: &str, mut each: impl FnMut(&Arc<Session>)) {
        let apps = self.apps.read();
        let sessions = apps.get(app).and_then(|users| users.get(user));
        for session in sessions.into_iter().flatten() {
            each(session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Budget;
    use crate::session::{Item, Outbound};

    fn session(memory: &Arc<Budget>) -> Arc<Session> {
        let outbound = Outbound::new(1 << 20, 100, memory);
        Arc::new(Session::new(outbound, ([127, 0, 0, 1], 1).into()))
    }

    #[test]
    fn sessions_of_one_user_are_found_and_leave_nothing_behind() {
        let registry = Registry::default();
        let user = User {
            app: AppId::new("demo").unwrap(),
            id: UserId::new("alice").unwrap(),
        };
        let memory = Budget::new(1 << 20);
        let sessions: Vec<_> = (0..2).map(|_| session(&memory)).collect();
        let count = |app: &str| {
            let mut n = 0;
            registry.for_each(app, "alice", |_| n += 1);
            n
        };
        sessions.iter().for_each(|s| registry.add(&user, s));
        assert_eq!((count("demo"), count("other")), (2, 0));
        let beyond = |max| registry.beyond(&user, max);
        assert_eq!((beyond(2).len(), beyond(1).len()), (0, 1));
        assert_eq!(beyond(1)[0].id, sessions[0].id, "the newest stay");
        sessions.iter().for_each(|s| registry.remove(&user, s));
        assert_eq!(count("demo"), 0);
        assert!(registry.apps.read().is_empty());
    }

    #[test]
    fn whoever_holds_most_is_cut_off_and_nobody_else() {
        let memory = Budget::new(1000);
        let registry = Registry::default();
        let sessions = [10, 5000, 20, 3000].map(|bytes| {
            let session = session(&memory);
            registry.connected(&session);
            session.outbound.push(Item::Encoded(vec![0; bytes].into()));
            session
        });
        assert_eq!(registry.cut_off_largest(memory.excess()), 2);
        let closed = sessions.map(|session| session.outbound.closed());
        let cut_off = Some(CloseReason::CutOff);
        assert_eq!(closed, [None, cut_off, None, cut_off]);
        assert_eq!(memory.excess(), 0);
    }

    #[test]
    fn what_waits_for_a_socket_counts_for_whoever_does_not_take_it() {
        let memory = Budget::new(1000);
        let registry = Registry::default();
        let (slow, other) = (session(&memory), session(&memory));
        registry.connected(&slow);
        registry.connected(&other);
        let writing = slow.outbound.writing(5000);
        other.outbound.push(Item::Encoded(vec![0; 10].into()));
        assert_eq!(registry.cut_off_largest(memory.excess()), 1);
        let closed = (slow.outbound.closed(), other.outbound.closed());
        assert_eq!(closed, (Some(CloseReason::CutOff), None));
        assert_eq!(memory.excess(), 0, "at once: nobody else has to go");
        drop(writing);
        drop(slow.outbound.writing(5000));
        assert_eq!((slow.outbound.bytes(), memory.excess()), (0, 0));
    }
}
