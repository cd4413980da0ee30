//! The link sessions of this node.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use parlance_proto::link::v1::Hello;

use super::questions::Gateways;
use super::session::{LinkSession, LinkState, RESUME_GRACE};
use crate::metrics;

/// All link sessions of this node, one a gateway. Cheap to clone.
#[derive(Clone, Default)]
pub struct Links {
    sessions: Arc<Mutex<HashMap<String, Arc<LinkSession>>>>,
    next_key: Arc<AtomicU64>,
    gateways: Gateways,
}

/// A stream that has found its session.
pub(super) struct Attached {
    pub(super) session: Arc<LinkSession>,
    pub(super) stream: u64,
    pub(super) resumed: bool,
    pub(super) received: u64,
}

impl Links {
    /// The gateways that attend to questions.
    pub fn gateways(&self) -> &Gateways {
        &self.gateways
    }

    /// The keys of the sessions that have a stream.
    pub fn keys(&self) -> Vec<u64> {
        let sessions = self.sessions.lock();
        sessions
            .values()
            .filter(|session| session.is_connected())
            .map(|session| session.key())
            .collect()
    }

    /// How each link is, by gateway.
    pub fn states(&self) -> Vec<LinkState> {
        let sessions = self.sessions.lock();
        let mut states: Vec<_> = sessions.values().map(|session| session.state()).collect();
        states.sort_unstable_by(|a, b| a.gateway_id.cmp(&b.gateway_id));
        states
    }

    /// Finds the session that a hello wants to resume, or starts a new one in the place of the gateway's last.
    pub(super) fn attach(&self, hello: &Hello) -> Attached {
        let mut sessions = self.sessions.lock();
        if let Some(session) = sessions.get(&hello.gateway_id)
            && session.link_id() == hello.link_id
            && let Some((stream, received)) = session.attach(hello.received)
        {
            return Attached {
                session: session.clone(),
                stream,
                resumed: true,
                received,
            };
        }
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(LinkSession::new(key, hello));
        let (stream, received) = session.attach(0).unwrap_or_default();
        if let Some(old) = sessions.insert(hello.gateway_id.clone(), session.clone()) {
            old.close();
            metrics::link_closed("replaced");
        }
        metrics::links(sessions.len());
        Attached {
            session,
            stream,
            resumed: false,
            received,
        }
    }

    /// A stream ended: closes its session if no other stream takes it up in time.
    pub(super) fn detach(&self, session: Arc<LinkSession>, stream: u64) {
        if !session.detach(stream) {
            return;
        }
        let links = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(RESUME_GRACE).await;
            if session.is_left(stream) {
                links.remove(&session);
                metrics::link_closed("not_resumed");
            }
        });
    }

    fn remove(&self, session: &Arc<LinkSession>) {
        session.close();
        let mut sessions = self.sessions.lock();
        if sessions
            .get(session.gateway_id())
            .is_some_and(|known| known.key() == session.key())
        {
            sessions.remove(session.gateway_id());
        }
        metrics::links(sessions.len());
    }

    /// Ends all sessions: the node stops.
    pub fn close_all(&self) {
        for (_, session) in self.sessions.lock().drain() {
            session.close();
        }
        metrics::links(0);
    }
}
