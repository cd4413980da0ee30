//! Local sessions by user, and all connections of this process.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use parlance_proto::ids::{AppId, UserId};
use parlance_proto::link::v1::{ListSessions, ListSessionsResult};
use uuid::Uuid;

use super::{Session, User, roll};
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

    /// Bytes that wait for all of them.
    pub fn outbound_bytes(&self) -> usize {
        let connections = self.connections.read();
        connections.values().map(|s| s.outbound.bytes()).sum()
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
    use crate::session::Outbound;

    #[test]
    fn sessions_of_one_user_are_found_and_leave_nothing_behind() {
        let registry = Registry::default();
        let user = User {
            app: AppId::new("demo").unwrap(),
            id: UserId::new("alice").unwrap(),
        };
        let sessions: Vec<_> = (0..2)
            .map(|_| Arc::new(Session::new(Outbound::new(1, 1))))
            .collect();
        let count = |app: &str| {
            let mut n = 0;
            registry.for_each(app, "alice", |_| n += 1);
            n
        };
        sessions.iter().for_each(|s| registry.add(&user, s));
        assert_eq!((count("demo"), count("other")), (2, 0));
        sessions.iter().for_each(|s| registry.remove(&user, s));
        assert_eq!(count("demo"), 0);
        assert!(registry.apps.read().is_empty());
    }
}
