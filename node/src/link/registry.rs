//! The link sessions of this node.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use parlance_proto::link::v1::Hello;
use parlance_proto::tls::CertificateFacts;

use super::questions::Gateways;
use super::session::{LinkSession, LinkState, RESUME_GRACE};
use crate::metrics;

/// All link sessions of this node, one a gateway. Cheap to clone.
#[derive(Clone, Default)]
pub struct Links {
    sessions: Arc<Mutex<HashMap<String, Linked>>>,
    next_key: Arc<AtomicU64>,
    gateways: Gateways,
}

/// The session of one gateway, and whose it is.
struct Linked {
    session: Arc<LinkSession>,
    /// The gateway's process.
    instance_id: String,
    /// The certificate of the newest stream.
    certificate: CertificateFacts,
}

/// A gateway that has a link, or may take it up again.
pub struct LinkedGateway {
    /// How the link is.
    pub state: LinkState,
    /// The certificate that it was opened with.
    pub certificate: CertificateFacts,
}

/// A stream that has found its session.
pub(super) struct Attached {
    pub(super) session: Arc<LinkSession>,
    pub(super) stream: u64,
    pub(super) resumed: bool,
    pub(super) received: u64,
}

/// Another process with this gateway id has its link here, and started first.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "gateway id {0:?} is in use by another process that started earlier: give each gateway an id and a certificate of its own"
)]
pub(super) struct IdInUse(String);

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
            .filter(|linked| linked.session.is_connected())
            .map(|linked| linked.session.key())
            .collect()
    }

    /// How each link is, by gateway.
    pub fn linked(&self) -> Vec<LinkedGateway> {
        let sessions = self.sessions.lock();
        let mut gateways: Vec<_> = sessions
            .values()
            .map(|linked| LinkedGateway {
                state: linked.session.state(),
                certificate: linked.certificate.clone(),
            })
            .collect();
        gateways.sort_unstable_by(|a, b| a.state.gateway_id.cmp(&b.state.gateway_id));
        gateways
    }

    /// Finds the session that a hello wants to resume, or starts a new one in the place of the gateway's last.
    ///
    /// Of two processes with one gateway id the one that started first has the link while its stream lives: whichever
    /// comes when, one of them is refused at every node, and they do not throw each other out in turns.
    pub(super) fn attach(
        &self,
        hello: &Hello,
        certificate: CertificateFacts,
    ) -> Result<Attached, IdInUse> {
        let mut sessions = self.sessions.lock();
        if let Some(linked) = sessions.get_mut(&hello.gateway_id) {
            let older = linked.instance_id < hello.instance_id;
            if older && linked.session.is_connected() {
                return Err(IdInUse(hello.gateway_id.clone()));
            }
            if linked.session.link_id() == hello.link_id
                && let Some((stream, received)) = linked.session.attach(hello.received)
            {
                linked.certificate = certificate;
                return Ok(Attached {
                    session: linked.session.clone(),
                    stream,
                    resumed: true,
                    received,
                });
            }
        }
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(LinkSession::new(key, hello));
        let (stream, received) = session.attach(0).unwrap_or_default();
        let linked = Linked {
            session: session.clone(),
            instance_id: hello.instance_id.clone(),
            certificate,
        };
        if let Some(old) = sessions.insert(hello.gateway_id.clone(), linked) {
            old.session.close();
            metrics::link_closed("replaced");
        }
        metrics::links(sessions.len());
        Ok(Attached {
            session,
            stream,
            resumed: false,
            received,
        })
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
            .is_some_and(|known| known.session.key() == session.key())
        {
            sessions.remove(session.gateway_id());
        }
        metrics::links(sessions.len());
    }

    /// Ends all sessions: the node stops.
    pub fn close_all(&self) {
        for (_, linked) in self.sessions.lock().drain() {
            linked.session.close();
        }
        metrics::links(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(instance_id: &str, link_id: &str) -> Hello {
        Hello {
            gateway_id: "g".into(),
            link_id: link_id.into(),
            instance_id: instance_id.into(),
            ..Hello::default()
        }
    }

    fn attach(links: &Links, instance_id: &str, link_id: &str) -> Result<Attached, IdInUse> {
        let certificate = CertificateFacts {
            serial: "01".parse().unwrap(),
            expires_s: 0,
        };
        links.attach(&hello(instance_id, link_id), certificate)
    }

    #[tokio::test]
    async fn of_two_processes_with_one_id_the_first_has_the_link_until_its_stream_ends() {
        let links = Links::default();
        let first = attach(&links, "1", "a").ok().unwrap();
        assert!(attach(&links, "2", "b").is_err());
        assert!(!first.session.is_closed());
        let resumed = attach(&links, "1", "a").ok().unwrap();
        assert!(resumed.resumed, "its own process is not another");
        links.detach(resumed.session.clone(), resumed.stream);
        let second = attach(&links, "2", "b").ok().unwrap();
        assert!(!second.resumed && resumed.session.is_closed());

        // The first is back: it has the link again, and stays.
        let first = attach(&links, "1", "c").ok().unwrap();
        assert!(second.session.is_closed());
        assert!(attach(&links, "2", "d").is_err());
        assert!(!first.session.is_closed());
        assert_eq!((links.linked().len(), links.keys().len()), (1, 1));
    }
}
