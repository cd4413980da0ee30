//! A request to its shard's leader: follows hints and the cluster's state, tries again over link breaks and
//! leader changes until the deadline. Every request is idempotent, so trying again is always safe.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::link::v1::{ClusterState, Publish, request, response};
use parlance_proto::tls::TlsIdentity;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::client::{Link, PublishSink};
use super::requests::{Reply, Requests, SubmitError};
use super::view::View;
use crate::metrics::RETRIES;

const PAUSE_LEAST: Duration = Duration::from_millis(5);
const PAUSE_MOST: Duration = Duration::from_millis(200);

/// Links by node, and the task of each.
type Links = HashMap<u64, (Arc<Link>, AbortHandle)>;

/// The way to the nodes.
pub struct Router {
    gateway_id: String,
    identity: TlsIdentity,
    view: watch::Sender<View>,
    /// None once closed.
    links: Mutex<Option<Links>>,
    sink: OnceLock<PublishSink>,
    me: Weak<Router>,
}

/// An answer and whose it is.
#[derive(Debug)]
pub struct Answer {
    /// What the leader said; never an error or `NotLeader`.
    pub body: response::Body,
    /// Which node.
    pub node_id: u64,
    /// On which link session.
    pub link_session: u64,
}

/// A request that got no answer in time, or was refused.
#[derive(Debug)]
pub struct Failure {
    /// For the client, if the request was a read.
    pub error: Error,
    /// A node may have done it.
    pub doubt: bool,
}

enum Attempt {
    Answered(Answer),
    Refused(Error),
    Retry { reason: &'static str, at_once: bool },
    Deadline,
}

/// What is known of a request over all its attempts.
#[derive(Default)]
struct History {
    doubt: bool,
    refusal: Option<Error>,
}

impl Router {
    /// A router that knows no node yet.
    pub fn new(gateway_id: String, identity: TlsIdentity) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            gateway_id,
            identity,
            view: watch::Sender::new(View::default()),
            links: Mutex::new(Some(HashMap::new())),
            sink: OnceLock::new(),
            me: me.clone(),
        })
    }

    /// Who takes what nodes push; set once, before any link is up.
    pub fn set_sink(&self, sink: PublishSink) {
        let _ = self.sink.set(sink);
    }

    /// What is known of the cluster, and its changes.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// A short look at what is known of the cluster.
    pub fn with_view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.borrow())
    }

    pub(super) fn identity(&self) -> &TlsIdentity {
        &self.identity
    }

    pub(super) fn gateway_id(&self) -> &str {
        &self.gateway_id
    }

    pub(super) fn publish(&self, publish: Publish) {
        if let Some(sink) = self.sink.get() {
            sink(publish);
        }
    }

    pub(super) fn merge(&self, state: ClusterState) {
        self.view.send_if_modified(|view| match view.merge(state) {
            Ok(changed) => changed,
            Err(error) => {
                tracing::error!(%error, "cluster state refused");
                false
            }
        });
        self.fit_links();
    }

    /// A leader said so itself.
    pub fn lead(&self, shard: u32, node_id: u64, term: u64) {
        self.view
            .send_if_modified(|view| view.lead(shard, node_id, term));
    }

    pub(super) fn link_opened(&self, node_id: u64, link_session: u64) {
        self.view.send_modify(|view| {
            view.link_sessions.insert(node_id, link_session);
        });
    }

    pub(super) fn link_lost(&self, node_id: u64) {
        self.view
            .send_if_modified(|view| view.link_sessions.remove(&node_id).is_some());
    }

    /// Whether at least one node can be asked.
    pub fn linked(&self) -> bool {
        self.with_view(|v| !v.link_sessions.is_empty())
    }

    /// Ends all links, for good.
    pub fn close(&self) {
        for (_, (link, task)) in self.links.lock().take().unwrap_or_default() {
            task.abort();
            link.requests.lost();
        }
    }

    /// One link for each member, none for others.
    fn fit_links(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let nodes = self.with_view(|v| v.nodes.clone());
        let mut gone = Vec::new();
        let mut links = self.links.lock();
        let Some(open) = &mut *links else { return };
        open.retain(|id, (link, task)| {
            let stays = nodes.get(id) == Some(&link.address);
            if !stays {
                task.abort();
                link.requests.lost();
                gone.push(*id);
            }
            stays
        });
        for (node_id, address) in nodes {
            open.entry(node_id).or_insert_with(|| {
                let link = Arc::new(Link {
                    node_id,
                    address,
                    requests: Requests::default(),
                });
                let task = tokio::spawn(link.clone().run(me.clone())).abort_handle();
                (link, task)
            });
        }
        drop(links);
        if !gone.is_empty() {
            self.view
                .send_modify(|v| v.link_sessions.retain(|id, _| !gone.contains(id)));
        }
    }

    fn link(&self, node_id: u64) -> Option<Arc<Link>> {
        let links = self.links.lock();
        let (link, _) = links.as_ref()?.get(&node_id)?;
        Some(link.clone())
    }

    /// Asks the shard's leader. Cancel-safe: a dropped call leaves nothing behind but a possible effect.
    pub async fn call(
        &self,
        shard: u32,
        body: request::Body,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let mut view = self.view.subscribe();
        let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
        let mut history = History::default();
        let mut hops = 0;
        loop {
            match self
                .attempt(shard, &body, deadline, &mut view, &mut history)
                .await
            {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Refused(error) => {
                    return Err(Failure {
                        error,
                        doubt: history.doubt,
                    });
                }
                Attempt::Deadline => return Err(history.failure()),
                Attempt::Retry { reason, at_once } => {
                    metrics::counter!(RETRIES, "reason" => reason).increment(1);
                    hops += 1;
                    if at_once && hops < 3 {
                        continue;
                    }
                }
            }
            let pause = Instant::now() + backoff.pause();
            tokio::select! {
                _ = view.changed() => {}
                () = sleep_until(pause.min(deadline)) => {}
            }
            if Instant::now() >= deadline {
                return Err(history.failure());
            }
        }
    }

    async fn attempt(
        &self,
        shard: u32,
        body: &request::Body,
        deadline: Instant,
        view: &mut watch::Receiver<View>,
        history: &mut History,
    ) -> Attempt {
        let leader = view.borrow_and_update().leader(shard);
        let link = leader.and_then(|id| self.link(id));
        let Some(link) = link else {
            return Attempt::Retry {
                reason: "no_leader",
                at_once: false,
            };
        };
        let reply = match link.requests.submit(shard, body.clone()) {
            Ok(reply) => reply,
            Err(SubmitError::Down) => {
                return Attempt::Retry {
                    reason: "link_down",
                    at_once: false,
                };
            }
            Err(SubmitError::Full) => {
                history.refusal = Some(Error::new(
                    ErrorCode::Overloaded,
                    "too many requests wait for a node",
                ));
                return Attempt::Retry {
                    reason: "refused",
                    at_once: false,
                };
            }
        };
        tokio::select! {
            reply = reply => match reply {
                Ok(reply) => self.judge(shard, link.node_id, reply, history),
                Err(_) => {
                    history.doubt = true;
                    Attempt::Retry { reason: "link_lost", at_once: false }
                }
            },
            _ = view.wait_for(|v| v.leader(shard).is_some_and(|id| id != link.node_id)) => {
                history.doubt = true;
                Attempt::Retry { reason: "leader_moved", at_once: true }
            }
            () = sleep_until(deadline) => {
                history.doubt = true;
                Attempt::Deadline
            }
        }
    }

    fn judge(&self, shard: u32, node_id: u64, reply: Reply, history: &mut History) -> Attempt {
        match reply.body {
            response::Body::NotLeader(hint) => {
                let mut moved = false;
                self.view.send_if_modified(|view| {
                    moved = view.hint(shard, node_id, hint.leader_node_id);
                    moved
                });
                Attempt::Retry {
                    reason: "not_leader",
                    at_once: moved,
                }
            }
            response::Body::Error(error) if error.is_retryable() => {
                history.doubt |= error.code() == ErrorCode::OutcomeUnknown;
                history.refusal = Some(error);
                Attempt::Retry {
                    reason: "refused",
                    at_once: false,
                }
            }
            response::Body::Error(error) => Attempt::Refused(error),
            body => Attempt::Answered(Answer {
                body,
                node_id,
                link_session: reply.link_session,
            }),
        }
    }
}

impl History {
    fn failure(self) -> Failure {
        let overloaded = self.refusal.filter(|e| e.code() == ErrorCode::Overloaded);
        let error = overloaded.unwrap_or_else(|| {
            Error::new(
                ErrorCode::Unavailable,
                "no leader of the shard answered in time",
            )
        });
        Failure {
            error,
            doubt: self.doubt,
        }
    }
}
