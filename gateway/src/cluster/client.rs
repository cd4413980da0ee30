//! One link: a stream of numbered batches to one node. After a break it resumes where it was, if the node still
//! knows it; otherwise unanswered requests fail (the router sends them again) and a new link session begins.
//!
//! ```text
//! connecting ──Welcome──▶ open ──break──▶ connecting (same link id, requests kept for one attempt)
//!      ▲                                      │ failed or not resumed: requests fail
//!      └──────────────── pause ◀──────────────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::Gauge;
use parking_lot::Mutex;
use parlance_proto::ids::NodeId;
use parlance_proto::link::v1::link_client::LinkClient;
use parlance_proto::link::v1::{GatewayFrame, Hello, NodeFrame, Publish, Welcome};
use parlance_proto::tls::node_name;
use parlance_proto::version::{LINK_PROTOCOLS, greeting};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use tonic::transport::Channel;
use uuid::Uuid;

use super::Router;
use super::backoff::Backoff;
use super::dial::whole;
use super::questions;
use super::replay::Replay;
use super::requests::Requests;
use super::watch;
use crate::bounds::Budget;
use crate::metrics::{LINK_UP, handles};

/// A connection with its Hello and Welcome takes no longer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE_LEAST: Duration = Duration::from_millis(20);
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// Frames handed to the transport and not yet taken by it. One, so that what waits gathers into larger batches.
const FRAMES_AHEAD: usize = 1;
/// A link that broke sooner after it opened counts as one that did not open: the next attempt waits.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// An acknowledgement waits this long for a request to travel with.
const ACK_DELAY: Duration = Duration::from_millis(2);

/// Takes what nodes push.
pub type PublishSink = Arc<dyn Fn(&Publish) + Send + Sync>;

/// Numbers link sessions in this process.
static LINK_SESSIONS: AtomicU64 = AtomicU64::new(0);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The transport failed.
    #[error("cannot connect: {}", whole(.0))]
    Transport(#[from] tonic::transport::Error),
    /// The node refused or the stream failed.
    #[error("{}", whole(.0))]
    Status(#[from] tonic::Status),
    /// The node ended the stream.
    #[error("the node closed the link")]
    Closed,
    /// No answer in time.
    #[error("no answer within {} ms", OPEN_TIMEOUT.as_millis())]
    Timeout,
    /// The first frame was not a welcome of the node that we dialled.
    #[error(
        "the node did not welcome this link as node {expected} with a protocol of {} to {}",
        LINK_PROTOCOLS.start(),
        LINK_PROTOCOLS.end()
    )]
    NoWelcome {
        /// The node that we dialled.
        expected: NodeId,
    },
    /// The node skipped a frame.
    #[error("frame {got} came after frame {last}")]
    Gap { got: u64, last: u64 },
    /// The node pushed something that is not a push.
    #[error("a push cannot be read: {0}")]
    Unreadable(prost::DecodeError),
}

/// One node's link.
pub struct Link {
    pub node: NodeId,
    pub address: String,
    pub requests: Requests,
    /// Since when the oldest frame that the node has not acknowledged has waited.
    pub waits: Mutex<Option<Instant>>,
}

/// What survives a break.
struct LinkSession {
    id: String,
    number: u64,
    received: u64,
    acknowledged: u64,
    replay: Replay,
}

/// Shows a link as up until dropped, which also happens when its node is removed and its task ends.
struct Up(Gauge);

impl Up {
    fn new(node: NodeId) -> Self {
        let up = metrics::gauge!(LINK_UP, "node" => node.to_string());
        up.set(1.0);
        Self(up)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.0.set(0.0);
    }
}

struct Open {
    outgoing: mpsc::Sender<GatewayFrame>,
    incoming: Streaming<NodeFrame>,
    client: LinkClient<Channel>,
}

impl Link {
    /// Keeps the link up until dropped.
    pub async fn run(self: Arc<Self>, router: Arc<Router>) {
        let (link, topology) = (self.clone(), router.topology());
        let give_up = async move { link.requests.give_up(link.node, topology).await };
        let _giving_up = AbortOnDropHandle::new(tokio::spawn(give_up));
        let mut session: Option<LinkSession> = None;
        let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
        let mut warned = false;
        loop {
            let opened = timeout(OPEN_TIMEOUT, Box::pin(self.open(&router, &mut session))).await;
            match opened.unwrap_or(Err(LinkError::Timeout)) {
                Ok((open, link)) => {
                    tracing::info!(node = %self.node, "link is up");
                    let up = Up::new(self.node);
                    let opened = Instant::now();
                    let follow = watch::follow(open.client.clone(), router.clone());
                    let watching = AbortOnDropHandle::new(tokio::spawn(follow));
                    let attend = questions::attend(open.client.clone(), router.clone());
                    let attending = AbortOnDropHandle::new(tokio::spawn(attend));
                    let error = self.pump(&router, open, link).await;
                    drop((watching, attending));
                    drop(up);
                    tracing::info!(node = %self.node, %error, "link broke");
                    if opened.elapsed() < STABLE_AFTER {
                        sleep(backoff.pause()).await;
                    } else {
                        (backoff, warned) = (Backoff::new(PAUSE_LEAST, PAUSE_MOST), false);
                    }
                }
                Err(error) => {
                    self.requests.lost();
                    *self.waits.lock() = None;
                    router.link_refused(self.node, error.to_string());
                    if !std::mem::replace(&mut warned, true) {
                        tracing::warn!(node = %self.node, address = %self.address, %error, "link is down, trying on");
                    }
                    sleep(backoff.pause()).await;
                }
            }
        }
    }

    async fn open<'s>(
        &self,
        router: &Router,
        session: &'s mut Option<LinkSession>,
    ) -> Result<(Open, &'s mut LinkSession), LinkError> {
        let name = node_name(self.node.0);
        let mut client = router.dialler().connect(&self.address, name).await?;
        let (outgoing, frames) = mpsc::channel(FRAMES_AHEAD);
        let link = session.get_or_insert_with(|| LinkSession::fresh(router.replays()));
        let hello = Hello {
            protocol: greeting(LINK_PROTOCOLS),
            gateway_id: router.gateway_id().to_owned(),
            link_id: link.id.clone(),
            received: link.received,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: router.instance_id().to_owned(),
        };
        let first = GatewayFrame {
            hello: Some(hello),
            ..GatewayFrame::default()
        };
        outgoing.send(first).await.map_err(|_| LinkError::Closed)?;
        let mut incoming = client.open(ReceiverStream::new(frames)).await?.into_inner();
        let welcome = incoming
            .message()
            .await?
            .and_then(|f| f.welcome)
            .filter(|w| w.node_id == self.node.0 && LINK_PROTOCOLS.contains(&w.protocol));
        let welcome = welcome.ok_or(LinkError::NoWelcome {
            expected: self.node,
        })?;
        self.begin(router, link, &welcome, &outgoing).await?;
        Ok((
            Open {
                outgoing,
                incoming,
                client,
            },
            link,
        ))
    }

    /// Resumes the link session or begins a new one.
    async fn begin(
        &self,
        router: &Router,
        link: &mut LinkSession,
        welcome: &Welcome,
        outgoing: &mpsc::Sender<GatewayFrame>,
    ) -> Result<(), LinkError> {
        if !welcome.resumed {
            let id = std::mem::take(&mut link.id);
            let number = LINK_SESSIONS.fetch_add(1, Ordering::Relaxed) + 1;
            *link = LinkSession::new(id, number, router.replays());
            self.requests.open(number);
            router.link_opened(self.node, number);
            return Ok(());
        }
        let Some(frames) = link.replay.after(welcome.received) else {
            // What the node lacks is gone here: only a new link session helps.
            *link = LinkSession::fresh(router.replays());
            return Err(LinkError::Closed);
        };
        for frame in frames {
            outgoing.send(frame).await.map_err(|_| LinkError::Closed)?;
        }
        self.requests.resumed();
        router.link_opened(self.node, link.number);
        Ok(())
    }

    /// Carries frames both ways until the link breaks. Reading never waits for writing.
    async fn pump(&self, router: &Router, mut open: Open, link: &mut LinkSession) -> LinkError {
        let mut ack_at: Option<Instant> = None;
        loop {
            *self.waits.lock() = link.replay.oldest();
            let ack_due = ack_at.is_some_and(|at| at <= Instant::now());
            let work = ack_due || self.requests.waiting();
            tokio::select! {
                frame = open.incoming.message() => match frame {
                    Ok(Some(frame)) => {
                        if let Err(error) = self.take(router, frame, link) {
                            return error;
                        }
                        if link.received > link.acknowledged && ack_at.is_none() {
                            ack_at = Some(Instant::now() + ACK_DELAY);
                        }
                    }
                    Ok(None) => return LinkError::Closed,
                    Err(status) => return status.into(),
                },
                permit = open.outgoing.reserve(), if work => match permit {
                    Ok(permit) => {
                        // Whatever is about to ask goes along.
                        yield_now().await;
                        permit.send(self.next_frame(link));
                        ack_at = None;
                    }
                    Err(_) => return LinkError::Closed,
                },
                () = self.requests.wake.notified(), if !work => {}
                () = sleep_until(ack_at.unwrap_or_else(Instant::now)), if !work && ack_at.is_some() => {}
            }
        }
    }

    fn next_frame(&self, link: &mut LinkSession) -> GatewayFrame {
        let requests = self.requests.take();
        let mut frame = GatewayFrame {
            ack: link.received,
            requests,
            ..GatewayFrame::default()
        };
        if !frame.requests.is_empty() {
            handles().link_batch.record(frame.requests.len() as f64);
            link.replay.number(&mut frame);
        }
        link.acknowledged = link.received;
        frame
    }

    fn take(
        &self,
        router: &Router,
        frame: NodeFrame,
        link: &mut LinkSession,
    ) -> Result<(), LinkError> {
        link.replay.acknowledge(frame.ack);
        if frame.number != 0 {
            if frame.number <= link.received {
                return Ok(());
            }
            if frame.number != link.received + 1 {
                return Err(LinkError::Gap {
                    got: frame.number,
                    last: link.received,
                });
            }
        }
        for response in frame.responses {
            self.requests.answer(response);
        }
        for publish in frame.publishes {
            match Publish::decode(publish) {
                Ok(publish) => router.publish(&publish),
                // Resumed, it would come again. With a new link session the clients resync and fetch the event.
                Err(error) => {
                    tracing::error!(node = %self.node, %error, "a push cannot be read");
                    *link = LinkSession::fresh(router.replays());
                    return Err(LinkError::Unreadable(error));
                }
            }
        }
        // Only now: an acknowledged event is in the queues of its sessions.
        link.received = link.received.max(frame.number);
        Ok(())
    }
}

impl LinkSession {
    fn new(id: String, number: u64, replays: &Arc<Budget>) -> Self {
        Self {
            id,
            number,
            received: 0,
            acknowledged: 0,
            replay: Replay::new(replays),
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "no two link sessions may have one id"
    )]
    fn fresh(replays: &Arc<Budget>) -> Self {
        Self::new(Uuid::new_v4().to_string(), 0, replays)
    }
}
