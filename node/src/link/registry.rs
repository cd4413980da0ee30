//! The link sessions of this node.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use parlance_proto::link::v1::Hello;
use parlance_proto::tls::CertificateFacts;

use super::held::Held;
use super::questions::Gateways;
use super::session::{LinkSession, LinkState, RESUME_GRACE};
use crate::metrics;

/// All link sessions of this node, one a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    held: Arc<Held>,
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
    /// None yet; together they may hold so many bytes.
    pub fn new(held_bytes_max: usize) -> Self {
        Self {
            held: Held::new(held_bytes_max),
            sessions: Arc::default(),
            next_key: Arc::default(),
            gateways: Gateways::default(),
        }
    }

    /// Bytes that wait on all links.
    pub fn held(&self) -> usize {
        self.held.used()
    }

    /// Keeps what all links hold within its budget; for as long as the node runs.
    pub async fn keep_within_budget(self) {
        loop {
            self.held.exceeded().await;
            self.shed();
        }
    }

    /// Closes links that hold more than their share, those with the most first, until the others have room.
    fn shed(&self) {
        let share = self.held.share();
        let sessions = self.sessions.lock();
        let sessions = sessions.values().map(|linked| linked.session.clone());
        let mut large: Vec<_> = sessions
            .map(|session| (session.held(), session))
            .filter(|(held, _)| *held > share)
            .collect();
        large.sort_unstable_by_key(|(held, _)| std::cmp::Reverse(*held));
        let mut excess = self.held.excess();
        for (held, session) in large {
            if excess == 0 {
                break;
            }
            tracing::warn!(
                gateway = session.gateway_id(),
                held,
                share,
                "link closed: too much waits for all gateways, and more than its share for this one"
            );
            metrics::link_closed("held_total");
            session.close();
            excess = excess.saturating_sub(held);
        }
    }

    fn changed(&self, sessions: &HashMap<String, Linked>) {
        self.held.shared_by(sessions.len());
    }

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
        let session = Arc::new(LinkSession::new(key, hello, &self.held));
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
        self.changed(&sessions);
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
            if session.is_closed() {
                self.remove(&session);
            }
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
        self.changed(&sessions);
    }

    /// Ends all sessions: the node stops.
    pub fn close_all(&self) {
        for (_, linked) in self.sessions.lock().drain() {
            linked.session.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::session::Receipt;
    use tokio::sync::mpsc;

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
        let links = Links::new(1000);
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

    fn of(links: &Links, gateway_id: &str) -> Attached {
        let hello = Hello {
            gateway_id: gateway_id.into(),
            ..hello("1", "a")
        };
        let certificate = CertificateFacts {
            serial: "01".parse().unwrap(),
            expires_s: 0,
        };
        links.attach(&hello, certificate).ok().unwrap()
    }

    fn publish(to: &Attached, bytes: usize) {
        let (receipt, _) = Receipt::new();
        to.session.publish(vec![0; bytes].into(), receipt);
    }

    #[tokio::test]
    async fn the_link_that_holds_most_is_closed_and_none_within_its_share() {
        let links = Links::new(1000);
        let [one, two, three] = ["a", "b", "c"].map(|gateway_id| of(&links, gateway_id));
        publish(&one, 600);
        publish(&two, 200);
        let shedding = tokio::spawn(links.clone().keep_within_budget());
        // The one whose message is too much is not the one that holds too much.
        publish(&three, 300);
        while !one.session.is_closed() {
            tokio::task::yield_now().await;
        }
        assert!(!two.session.is_closed() && !three.session.is_closed());
        assert_eq!(links.held(), 500);
        // Frames that lie in a stream count too, until it takes them or ends.
        let (to, mut from) = mpsc::channel(8);
        let (writing, stream) = (three.session.clone(), three.stream);
        let writer = tokio::spawn(async move { writing.write(stream, to).await });
        while three.session.state().waiting.is_zero() {
            tokio::task::yield_now().await;
        }
        publish(&three, 600);
        while !three.session.is_closed() {
            tokio::task::yield_now().await;
        }
        writer.await.unwrap();
        assert!(links.held() >= 500, "{}", links.held());
        assert!(from.recv().await.is_some_and(|d| d.frame.number == 1));
        from.close();
        while from.recv().await.is_some() {}
        assert_eq!(links.held(), 200);
        assert!(!two.session.is_closed());
        links.detach(three.session.clone(), three.stream);
        assert_eq!(links.linked().len(), 2, "it is forgotten with its stream");
        shedding.abort();
    }

    #[tokio::test]
    async fn of_many_links_each_is_left_alone_within_its_share() {
        let links = Links::new(1000);
        let all: Vec<_> = (0..10).map(|n| of(&links, &n.to_string())).collect();
        for link in &all {
            publish(link, 100);
        }
        publish(&all[3], 1);
        links.shed();
        let closed = all.iter().filter(|link| link.session.is_closed()).count();
        assert_eq!((closed, links.held()), (1, 900));
        assert!(all[3].session.is_closed());
    }
}
