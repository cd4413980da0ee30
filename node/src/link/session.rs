//! One link session: what a node has to say to one gateway, numbered, and kept until acknowledged.
//!
//! A stream may break and come back: frames that the gateway has not acknowledged are sent again. A session that stays
//! without a stream for [`RESUME_GRACE`], or that holds too much, is closed; the gateway then starts a new one and
//! lets its users resync. Nobody waits for a gateway without a stream: it either resumes or resyncs.

mod frames;
mod stream;

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::link::v1::{Hello, Response, response};
use parlance_proto::visible::is_hidden;
use prost::Message;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

pub(super) use self::frames::Departing;
use self::frames::Inner;
pub(super) use self::stream::stream_channel;
use super::held::Held;
use super::turns::Turns;
use crate::metrics;

/// How long a session without a stream is kept.
pub const RESUME_GRACE: Duration = Duration::from_secs(5);
/// Bytes that wait or are unacknowledged, soft, before a session is closed.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one response. With the soft limit of a frame it is well below what a frame may have.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A gateway that was sent nothing for so long is asked whether it is there: a link that is only open says nothing.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// Dropped, in all its copies, when every gateway that was sent something has acknowledged it or has lost its stream.
#[derive(Clone)]
pub struct Receipt(#[allow(dead_code, reason = "only its drop matters")] Arc<oneshot::Sender<()>>);

impl Receipt {
    /// A receipt and what resolves when its last copy is dropped.
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(sender)), receiver)
    }
}

/// One link session of one gateway.
pub struct LinkSession {
    key: u64,
    gateway_id: String,
    link_id: String,
    version: String,
    held: Arc<Held>,
    inner: Mutex<Inner>,
    work: Notify,
    /// Told when the session holds less.
    freed: Notify,
    turns: Turns,
    over: CancellationToken,
}

/// What a numbered frame is to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    /// The one that was due.
    Next,
    /// It was here before: it is to be dropped.
    Again,
    /// One before it is missing: the stream cannot go on.
    Early,
}

/// Of the version that a gateway says it has: all nodes are told of it.
const VERSION_CHARS_MAX: usize = 32;

fn version(hello: &Hello) -> String {
    let said = hello.version.chars().filter(|c| !is_hidden(*c));
    said.take(VERSION_CHARS_MAX).collect()
}

/// How a link is, for whoever watches over the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// Whose link it is.
    pub gateway_id: String,
    /// The gateway's program.
    pub version: String,
    /// It has a stream; else it may be resumed within [`RESUME_GRACE`].
    pub connected: bool,
    /// How long the oldest frame that the gateway has not acknowledged has waited. It is sent one at least every second.
    pub waiting: Duration,
}

impl LinkSession {
    pub(super) fn new(key: u64, hello: &Hello, held: &Arc<Held>) -> Self {
        Self {
            key,
            gateway_id: hello.gateway_id.clone(),
            link_id: hello.link_id.clone(),
            version: version(hello),
            held: held.clone(),
            inner: Mutex::new(Inner::new(held)),
            work: Notify::new(),
            freed: Notify::new(),
            turns: Turns::new(),
            over: CancellationToken::new(),
        }
    }

    /// Unique on this node while it runs.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Whose link it is.
    pub fn gateway_id(&self) -> &str {
        &self.gateway_id
    }

    pub(super) fn link_id(&self) -> &str {
        &self.link_id
    }

    /// It will carry nothing any more.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    /// Resolves when it carries nothing any more, also while its stream takes nothing.
    pub(super) async fn closed(&self) {
        self.over.cancelled().await;
    }

    pub(super) fn is_connected(&self) -> bool {
        self.inner.lock().connected
    }

    /// How it is.
    pub fn state(&self) -> LinkState {
        let inner = self.inner.lock();
        let oldest = inner.unacknowledged.front();
        LinkState {
            gateway_id: self.gateway_id.clone(),
            version: self.version.clone(),
            connected: inner.connected,
            waiting: oldest.map_or(Duration::ZERO, |sent| sent.since.elapsed()),
        }
    }

    /// Bytes that wait or are unacknowledged.
    pub(super) fn held(&self) -> usize {
        self.inner.lock().held()
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Resolves when the gateway has taken most of what it was sent, or the session is over.
    pub(super) async fn room_for_answers(&self) {
        loop {
            let freed = self.freed.notified();
            {
                let inner = self.inner.lock();
                if inner.closed || inner.held() < self.held.room_for_reads().max(1) {
                    return;
                }
            }
            freed.await;
        }
    }

    /// Queues an answer. One that no frame can carry becomes an error: it would break the link at every try.
    pub fn respond(&self, mut response: Response) {
        let mut bytes = response.encoded_len();
        if bytes > RESPONSE_BYTES_MAX {
            tracing::error!(gateway = self.gateway_id, bytes, "an answer is too large");
            metrics::answer_too_large();
            let message = format!("the answer has {bytes} bytes, {RESPONSE_BYTES_MAX} are allowed");
            let error = Error::new(ErrorCode::Internal, message);
            response.body = Some(response::Body::Error(error));
            bytes = response.encoded_len();
        }
        self.queue(bytes, |inner| inner.responses.push(response));
    }

    /// Queues an encoded `Publish`; the receipt is dropped once the gateway has it.
    pub fn publish(&self, publish: Bytes, receipt: Receipt) {
        self.queue(publish.len(), |inner| {
            inner.publishes.push(publish);
            inner.receipts.push(inner.connected.then_some(receipt));
        });
    }

    fn queue(&self, bytes: usize, push: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.lock();
        if inner.closed {
            return;
        }
        if inner.held() > HELD_BYTES_MAX {
            tracing::warn!(
                gateway = self.gateway_id,
                "link closed: the gateway reads too slowly"
            );
            metrics::link_closed("too_slow");
            drop(inner);
            return self.close();
        }
        let waiting = inner.waiting.used() + bytes;
        inner.waiting.set(waiting);
        push(&mut inner);
        drop(inner);
        self.held.added();
        self.work.notify_one();
    }

    /// Ends the session; what it held is let go.
    pub(super) fn close(&self) {
        let (received, stream) = {
            let inner = self.inner.lock();
            (inner.received, inner.stream)
        };
        *self.inner.lock() = Inner {
            closed: true,
            received,
            stream: stream + 1,
            ..Inner::new(&self.held)
        };
        self.work.notify_waiters();
        self.work.notify_one();
        self.freed.notify_waiters();
        self.over.cancel();
    }

    /// A stream of this session begins; the gateway has everything up to `received`. Answers the stream's number and
    /// what this node has, or nothing if the session cannot go on.
    pub(super) fn attach(&self, received: u64) -> Option<(u64, u64)> {
        self.acknowledge(received);
        let mut inner = self.inner.lock();
        if inner.closed || received >= inner.next_number {
            return None;
        }
        inner.stream += 1;
        inner.connected = true;
        let attached = (inner.stream, inner.received);
        drop(inner);
        self.work.notify_waiters(); // the writer of an older stream ends
        Some(attached)
    }

    /// The stream ended: nobody waits for this gateway from here on. Answers whether it was the newest.
    pub(super) fn detach(&self, stream: u64) -> bool {
        let mut released = Vec::new();
        let mut inner = self.inner.lock();
        let newest = inner.stream == stream && !inner.closed;
        if newest {
            inner.connected = false;
            released.extend(inner.receipts.iter_mut().map(Option::take));
            for sent in &mut inner.unacknowledged {
                released.append(&mut sent.receipts);
            }
        }
        drop(inner);
        drop(released); // outside the lock: receipts wake their waiters
        newest
    }

    /// Whether no stream came after this one.
    pub(super) fn is_left(&self, stream: u64) -> bool {
        let inner = self.inner.lock();
        inner.stream == stream && !inner.connected
    }

    /// The gateway has all frames up to `number`.
    pub(super) fn acknowledge(&self, number: u64) {
        let mut done = Vec::new();
        let mut inner = self.inner.lock();
        while inner
            .unacknowledged
            .front()
            .is_some_and(|sent| sent.number <= number)
        {
            if let Some(sent) = inner.unacknowledged.pop_front() {
                inner.unacknowledged_bytes -= sent.counted.used();
                done.push(sent);
            }
        }
        drop(inner);
        if !done.is_empty() {
            self.freed.notify_waiters();
        }
        drop(done); // outside the lock: receipts wake their waiters
    }

    /// A numbered frame came.
    pub(super) fn receive(&self, number: u64) -> Arrived {
        let mut inner = self.inner.lock();
        match number.cmp(&(inner.received + 1)) {
            Ordering::Less => Arrived::Again,
            Ordering::Greater => Arrived::Early,
            Ordering::Equal => {
                inner.received = number;
                Arrived::Next
            }
        }
    }

    /// Writes frames to a stream until it, or a newer one, ends it: first those that were not acknowledged.
    pub(super) async fn write(&self, stream: u64, to: mpsc::Sender<Departing>) {
        let (mut next, mut ask) = (0, false);
        loop {
            // What is about to be said goes along.
            yield_now().await;
            let work = self.work.notified();
            let departing = {
                let mut inner = self.inner.lock();
                if inner.stream != stream || inner.closed {
                    return;
                }
                inner.frame_from(next, std::mem::take(&mut ask), &self.held)
            };
            match departing {
                Some(departing) => {
                    let frame = &departing.frame;
                    next = frame.number + 1;
                    let (responses, publishes) = (frame.responses.len(), frame.publishes.len());
                    if responses + publishes > 0 {
                        metrics::link_frame(responses, publishes);
                    }
                    if to.send(departing).await.is_err() {
                        return;
                    }
                }
                None => {
                    tokio::select! {
                        () = work => {}
                        () = to.closed() => return,
                        () = sleep(ASK_AFTER) => ask = true,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
impl LinkSession {
    /// What waits to be pushed, encoded.
    pub(crate) fn publishes(&self) -> Vec<Bytes> {
        self.inner.lock().publishes.clone()
    }
}

#[cfg(test)]
mod tests;
