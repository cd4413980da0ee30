//! Local sessions by user, and all connections of this process.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use uuid::Uuid;

use super::{Session, User};
use crate::metrics::{CONNECTIONS, SESSIONS};

type Users = HashMap<Arc<str>, Vec<Arc<Session>>>;

/// Who is connected here.
#[derive(Debug, Default)]
pub struct Registry {
    apps: RwLock<HashMap<Arc<str>, Users>>,
    connections: RwLock<HashMap<Uuid, Arc<Session>>>,
}

impl Registry {
    /// A connection was accepted.
    pub fn connected(&self, session: &Arc<Session>) {
        self.connections.write().insert(session.id, session.clone());
        metrics::gauge!(CONNECTIONS).increment(1);
    }

    /// A connection ended.
    pub fn disconnected(&self, session: &Session) {
        if self.connections.write().remove(&session.id).is_some() {
            metrics::gauge!(CONNECTIONS).decrement(1);
        }
    }

    /// All connections, logged in or not.
    pub fn connections(&self) -> Vec<Arc<Session>> {
        self.connections.read().values().cloned().collect()
    }

    /// Pushes for the user reach this session from now on.
    pub fn add(&self, user: &User, session: &Arc<Session>) {
        let mut apps = self.apps.write();
        let sessions = apps
            .entry(user.app_id.clone())
            .or_default()
            .entry(user.user_id.clone())
            .or_default();
        if sessions.is_empty() {
            sessions.reserve_exact(1);
        }
        sessions.push(session.clone());
        metrics::gauge!(SESSIONS).increment(1);
    }

    /// Pushes for the user no longer reach this session.
    pub fn remove(&self, user: &User, session: &Session) {
        let mut apps = self.apps.write();
        let Some(users) = apps.get_mut(&user.app_id) else {
            return;
        };
        let Some(sessions) = users.get_mut(&user.user_id) else {
            return;
        };
        let before = sessions.len();
        sessions.retain(|s| s.id != session.id);
        metrics::gauge!(SESSIONS).decrement((before - sessions.len()) as f64);
        if sessions.is_empty() {
            users.remove(&user.user_id);
        }
        if users.is_empty() {
            apps.remove(&user.app_id);
        }
    }

    /// Calls `each` for the local sessions of a user.
    pub fn for_each(&self, app_id: &str, user_id: &str, mut each: impl FnMut(&Arc<Session>)) {
        let apps = self.apps.read();
        for session in apps
            .get(app_id)
            .and_then(|users| users.get(user_id))
            .into_iter()
            .flatten()
        {
            each(session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::codec::Format;
    use crate::ws::queue::Outbound;

    #[test]
    fn sessions_of_one_user_are_found_and_leave_nothing_behind() {
        let registry = Registry::default();
        let user = User {
            app_id: "demo".into(),
            user_id: "alice".into(),
        };
        let sessions: Vec<_> = (0..2)
            .map(|_| Arc::new(Session::new(Format::Binary, Outbound::new(1, 1))))
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
