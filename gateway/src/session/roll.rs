//! The sessions of this gateway for operators: a page at a time, of bounded size and work.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parlance_proto::link::v1::{ListSessions, ListSessionsResult, Session as Row};
use uuid::Uuid;

use super::{Caller, Session};

/// Sessions on one page: with the longest ids and labels they have 48 KiB.
const PAGE_MAX: usize = 100;
/// Connections that are looked at for one page, so that a rare user is not sought in all at once.
const LOOKED_AT_MAX: usize = 10_000;

/// The next page behind a session, in the order of their ids.
pub fn page(connections: &BTreeMap<Uuid, Arc<Session>>, ask: &ListSessions) -> ListSessionsResult {
    let from = match Uuid::parse_str(&ask.after_session_id) {
        Ok(after) => Bound::Excluded(after),
        Err(_) => Bound::Unbounded,
    };
    let wanted = match usize::try_from(ask.limit) {
        Ok(0) | Err(_) => PAGE_MAX,
        Ok(limit) => limit.min(PAGE_MAX),
    };
    let mut result = ListSessionsResult::default();
    let behind = connections.range((from, Bound::Unbounded));
    for (looked_at, (id, session)) in behind.enumerate() {
        let full = result.sessions.len() >= wanted;
        if full || looked_at >= LOOKED_AT_MAX {
            result.more = true;
            return result;
        }
        result.last_session_id = id.to_string();
        let caller = session.caller().filter(|caller| is_wanted(caller, ask));
        result.sessions.extend(caller.map(|caller| row(caller)));
    }
    result
}

fn is_wanted(caller: &Caller, ask: &ListSessions) -> bool {
    let user = &caller.user;
    (ask.app_id.is_empty() || ask.app_id == user.app.as_str())
        && (ask.user_id.is_empty() || ask.user_id == user.id.as_str())
}

fn row(caller: &Caller) -> Row {
    let device = &caller.device;
    Row {
        session_id: caller.session.to_string(),
        app_id: (&caller.user.app).into(),
        user_id: (&caller.user.id).into(),
        platform: device.platform.clone(),
        device_id: device.device_id.clone(),
        client_version: device.client_version.clone(),
        since_ms: caller.since_ms,
        token_expires_ms: caller.standing.lock().grant.expires_ms,
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use parlance_proto::ids::{AppId, UserId};
    use tokio::sync::Semaphore;
    use tokio::time::Instant;

    use super::*;
    use crate::bounds::SessionRates;
    use crate::session::{Agreed, Chains, Device, InFlight, Standing, User};
    use crate::token::{Grant, Role};

    fn session(user: &str) -> Arc<Session> {
        let session = Arc::new(Session::alone());
        let grant = Grant {
            secret_id: Arc::default(),
            issued_ms: 0,
            expires_ms: 7,
            role: Role::User,
        };
        let standing = Standing {
            grant,
            since: 0,
            ends: Instant::now(),
            warned: false,
            due: None,
        };
        let agreed = Agreed {
            protocol: 1,
            capabilities: Vec::new(),
        };
        session.log_in(Caller {
            user: User {
                app: AppId::new("demo").unwrap(),
                id: UserId::new(user).unwrap(),
            },
            app_called: String::new(),
            session: session.id,
            standing: Mutex::new(standing),
            agreed,
            device: Device::default(),
            since_ms: 1,
            in_flight: InFlight::default(),
            chains: Chains::default(),
            reads: Semaphore::new(1),
            rates: SessionRates::of_nobody(),
        });
        session
    }

    /// All pages of a question.
    fn all(connections: &BTreeMap<Uuid, Arc<Session>>, mut ask: ListSessions) -> Vec<Row> {
        let mut rows = Vec::new();
        loop {
            let result = page(connections, &ask);
            assert!(result.sessions.len() <= PAGE_MAX);
            rows.extend(result.sessions);
            if !result.more {
                return rows;
            }
            ask.after_session_id = result.last_session_id;
        }
    }

    #[tokio::test]
    async fn pages_have_every_session_once_and_only_those_that_are_wanted() {
        let mut connections = BTreeMap::new();
        for n in 0..250 {
            let session = session(if n % 2 == 0 { "ann" } else { "bob" });
            connections.insert(session.id, session);
        }
        let nobody = Arc::new(Session::alone());
        connections.insert(nobody.id, nobody);
        let ask = |user: &str, limit| ListSessions {
            app_id: "demo".into(),
            user_id: user.into(),
            limit,
            ..ListSessions::default()
        };
        for limit in [1, 7, 100, 5000] {
            let rows = all(&connections, ask("", limit));
            let mut ids: Vec<_> = rows.iter().map(|row| &row.session_id).collect();
            ids.dedup();
            assert_eq!(ids.len(), 250);
        }
        assert_eq!(all(&connections, ask("ann", 100)).len(), 125);
        let other = ListSessions {
            app_id: "shop".into(),
            ..ListSessions::default()
        };
        assert!(all(&connections, other).is_empty());
    }

    #[tokio::test]
    async fn a_page_fits_into_an_answer_whatever_the_clients_call_themselves() {
        use prost::Message as _;
        let row = Row {
            session_id: Uuid::nil().to_string(),
            app_id: "a".repeat(32),
            user_id: "u".repeat(64),
            platform: "p".repeat(64),
            device_id: "d".repeat(64),
            client_version: "v".repeat(64),
            since_ms: i64::MAX,
            token_expires_ms: i64::MAX,
        };
        let result = ListSessionsResult {
            sessions: vec![row; PAGE_MAX],
            ..ListSessionsResult::default()
        };
        assert!(
            result.encoded_len() <= 48 * 1024,
            "{}",
            result.encoded_len()
        );
    }
}
