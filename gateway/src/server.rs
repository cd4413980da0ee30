//! Builds a gateway, starts its parts in order and stops them in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parlance_proto::client::v1::{ReconnectNotice, server_frame};
use parlance_proto::link::v1::{gateway_answer, gateway_question};
use parlance_proto::tls::Role;
use parlance_tls::{ClusterTls, Followed};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use crate::api::{Api, standing};
use crate::cluster::{LinkState, Router, watch};
use crate::config::Config;
use crate::endpoint::listen::Bound;
use crate::endpoint::{ListenerCertificate, Shared};
use crate::error::StartError;
use crate::fanout::{Subscriptions, deliver};
use crate::metrics::{LINK_WAITING, LINKS_DOWN, handles, refused};
use crate::session::{CloseReason, Item, Push, Registry, Session};

/// Answers to requests under way hold a stop up for no longer.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Closing the last connections takes no longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often is measured what is not counted as it happens.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// Nodes acknowledge with the next answer; one that has not for so long does not read, or does not answer.
const WEDGED_AFTER: Duration = Duration::from_secs(5);

/// A running gateway. Dropping it stops it at once; [`Gateway::shutdown`] stops it gracefully.
pub struct Gateway {
    shared: Arc<Shared>,
    router: Arc<Router>,
    tls: Arc<ClusterTls>,
    /// Of the listeners.
    certificates: Vec<Arc<Followed<ListenerCertificate>>>,
    leaving: AtomicBool,
    addresses: Vec<SocketAddr>,
    accepting: Vec<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Binds the listeners and begins to look for the cluster; returns before it is found, see [`Gateway::ready`].
    /// What this process counts goes to the metrics recorder that is installed by then.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        config.validate().map_err(StartError::Config)?;
        crate::metrics::describe();
        let tls = ClusterTls::open(&config.tls)?;
        let role = tls.identity().role.clone();
        if role != Role::Gateway(config.gateway_id.clone()) {
            return Err(StartError::WrongRole {
                gateway_id: config.gateway_id,
                certificate: role,
            });
        }
        if let Some(folder) = &mut config.page_dir {
            let found = std::fs::canonicalize(&*folder);
            *folder = found.map_err(|source| StartError::PageDir {
                path: folder.clone(),
                source,
            })?;
        }
        let mut listeners = Vec::new();
        for (number, settings) in config.listener.iter().enumerate() {
            listeners.push(Bound::new(number, settings)?);
        }
        let certificates = listeners.iter().filter_map(Bound::certificate).collect();
        let addresses: Vec<_> = listeners.iter().map(Bound::address).collect();

        let router = Router::new(config.gateway_id.clone(), tls.clone());
        let registry = Arc::new(Registry::default());
        let roll = registry.clone();
        router.set_answerer(Arc::new(move |question| match question {
            gateway_question::Body::ListSessions(ask) => {
                gateway_answer::Body::ListSessions(roll.page(&ask))
            }
        }));
        let subscriptions = Arc::new(Subscriptions::default());
        let places = Arc::new(Semaphore::new(config.limits.connections_max));
        let api = Arc::new(Api::new(
            config.limits,
            registry.clone(),
            router.clone(),
            subscriptions.clone(),
        ));
        let (sink, memory) = (registry.clone(), api.bounds.outbound.clone());
        router.set_sink(Arc::new(move |publish| deliver(&sink, &memory, publish)));
        let background = vec![
            tokio::spawn(watch::seeds(config.nodes, router.clone())),
            tokio::spawn(subscriptions.run(router.clone(), registry)),
            tokio::spawn(measure(api.clone(), router.clone())),
            tokio::spawn(cut_off_largest(api.clone())),
            tokio::spawn(standing::watch_tokens(api.clone())),
            tokio::spawn(standing::watch_operators(api.clone())),
        ];
        let shared = Arc::new(Shared {
            api,
            tasks: TaskTracker::new(),
            page_dir: config.page_dir,
        });
        let accept = |bound: Bound| tokio::spawn(bound.run(shared.clone(), places.clone()));
        let accepting = listeners.into_iter().map(accept).collect();
        tracing::info!(gateway = config.gateway_id, ?addresses, "gateway listens");
        Ok(Self {
            shared,
            router,
            tls,
            certificates,
            leaving: AtomicBool::new(false),
            addresses,
            accepting,
            background,
        })
    }

    /// Looks at all certificate files now, and not only within a second or two: those that have changed are used for
    /// new connections.
    pub fn reload_certificates(&self) {
        self.tls.look();
        self.certificates.iter().for_each(|files| files.look());
    }

    /// Where clients connect, in the order of the settings.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether clients should be sent here; the error says why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.leaving.load(Ordering::Acquire) {
            return Err("stopping".to_owned());
        }
        if !self.router.with_topology(|topology| topology.is_known()) {
            return Err("no node has told the cluster's state yet".to_owned());
        }
        if !self.router.linked() {
            let refusals = self.router.refusals();
            return Err(format!("no link to any node: {refusals}"));
        }
        if let Some(ended) = self.accepting.iter().position(JoinHandle::is_finished) {
            return Err(format!("listener {ended} has ended"));
        }
        Ok(())
    }

    /// What is wrong with the way to the cluster, for people; clients are served all the same.
    pub fn notes(&self) -> Vec<String> {
        let states = self.router.link_states().into_iter();
        states.filter_map(note).collect()
    }

    /// Is ready no more, and serves on for `limits.lame_duck_ms`, new clients too: until whoever sends clients here has noticed,
    /// none must meet a closed door. Comes before [`Gateway::shutdown`]. Cancel safe: dropping it ends the waiting.
    pub async fn lame_duck(&self) {
        self.leaving.store(true, Ordering::Release);
        let serves_on = self.shared.api.limits.lame_duck();
        tracing::info!(?serves_on, "not ready any more");
        sleep(serves_on).await;
    }

    /// Stops gracefully: no new clients; those here are told to go elsewhere and served until they have gone or
    /// `limits.drain_ms` is over; then the rest is closed as going away. Not cancel-safe: dropping it stops at once.
    pub async fn shutdown(mut self) {
        self.shared.api.drain();
        for accepting in std::mem::take(&mut self.accepting) {
            accepting.abort();
            let _ = accepting.await;
        }
        self.shared.tasks.close();
        let sessions = self.sessions();
        let drain = self.shared.api.limits.drain();
        tracing::info!(connections = sessions.len(), ?drain, "draining");
        let within_ms = u32::try_from(drain.as_millis() / 2).unwrap_or(u32::MAX);
        let notice = server_frame::Body::Reconnect(ReconnectNotice { within_ms });
        let notice = Arc::new(Push::notice(notice));
        for session in sessions {
            match session.caller() {
                Some(_) => {
                    session.outbound.push(Item::Push(notice.clone()));
                }
                None => session.outbound.close(CloseReason::GoingAway),
            }
        }
        let _ = timeout(drain, self.shared.tasks.wait()).await;
        self.close_rest().await;
        tracing::info!("gateway stopped");
    }

    async fn close_rest(&self) {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        for session in self.sessions() {
            let _ = timeout_at(deadline, session.settled()).await;
            session.outbound.close(CloseReason::GoingAway);
        }
        let closed = timeout(CLOSE_TIMEOUT, self.shared.tasks.wait());
        if closed.await.is_err() {
            tracing::warn!("some connections did not close in time");
        }
    }

    fn sessions(&self) -> Vec<Arc<Session>> {
        self.shared.api.registry.connections()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.accepting.iter().for_each(JoinHandle::abort);
        self.background.iter().for_each(JoinHandle::abort);
        self.router.close();
        for session in self.sessions() {
            session.outbound.close(CloseReason::GoingAway);
        }
    }
}

fn note(link: LinkState) -> Option<String> {
    let node = link.node;
    if !link.is_up {
        Some(format!("the link to node {node} is down"))
    } else if link.waiting > WEDGED_AFTER {
        let seconds = link.waiting.as_secs();
        Some(format!("node {node} has not acknowledged for {seconds} s"))
    } else {
        None
    }
}

async fn measure(api: Arc<Api>, router: Arc<Router>) {
    let mut interval = interval(MEASURE_INTERVAL);
    loop {
        interval.tick().await;
        let (bounds, shown) = (&api.bounds, handles());
        shown.outbound_bytes.set(bounds.outbound.used() as f64);
        shown.inbound_bytes.set(bounds.inbound.used() as f64);
        shown.connections_waiting.set(bounds.waiting.count() as f64);
        let links = router.link_states();
        let down = links.iter().filter(|link| !link.is_up).count();
        metrics::gauge!(LINKS_DOWN).set(down as f64);
        for link in links {
            let waiting = metrics::gauge!(LINK_WAITING, "node" => link.node.to_string());
            waiting.set(link.waiting.as_secs_f64());
        }
    }
}

/// When more waits for all sessions than may, those that hold the most are cut off.
async fn cut_off_largest(api: Arc<Api>) {
    let memory = &api.bounds.outbound;
    loop {
        memory.exceeded().await;
        while memory.excess() > 0 {
            let excess = memory.excess();
            let count = api.registry.cut_off_largest(excess);
            for _ in 0..count {
                refused("outbound_total");
            }
            if count == 0 {
                break; // what is left is on its way out
            }
            tracing::warn!(
                excess,
                sessions = count,
                "too much waits to be read: the largest are cut off"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::ids::NodeId;

    use super::*;

    #[test]
    fn links_that_are_down_or_stuck_are_noted() {
        let link = |is_up, seconds| LinkState {
            node: NodeId(2),
            is_up,
            waiting: Duration::from_secs(seconds),
        };
        assert_eq!(note(link(true, 1)), None);
        let note = |is_up, seconds| note(link(is_up, seconds)).unwrap();
        assert_eq!(note(false, 0), "the link to node 2 is down");
        assert_eq!(note(true, 7), "node 2 has not acknowledged for 7 s");
    }
}
