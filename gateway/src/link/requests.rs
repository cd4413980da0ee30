//! The requests of one link: queued, sent and unanswered. Any task submits; the link's own task drains.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use parlance_proto::link::v1::{Request, Response, request, response};
use prost::Message as _;
use tokio::sync::{Notify, oneshot};

/// Requests that wait to be written to one link.
const QUEUE_MAX: usize = 32_768;
/// Requests in one frame.
const FRAME_REQUESTS_MAX: usize = 1024;
/// Bytes after which a frame takes no further request.
const FRAME_BYTES: usize = 2 * 1024 * 1024;

/// An answer and the link session that it came on.
#[derive(Debug)]
pub struct Reply {
    /// What the node said.
    pub body: response::Body,
    /// Which link session.
    pub link_session: u64,
}

/// Why a request cannot be submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// The link is down.
    Down,
    /// Too many requests wait.
    Full,
}

/// The requests of one link.
#[derive(Debug, Default)]
pub struct Requests {
    inner: Mutex<Inner>,
    /// Told when there is something to send.
    pub wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    open: bool,
    link_session: u64,
    last_id: u64,
    queue: VecDeque<Request>,
    unanswered: HashMap<u64, oneshot::Sender<Reply>>,
}

impl Requests {
    /// Queues a request. The receiver fails if the link is lost before the answer.
    pub fn submit(
        &self,
        shard: u32,
        body: request::Body,
    ) -> Result<oneshot::Receiver<Reply>, SubmitError> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.inner.lock();
        if !inner.open {
            return Err(SubmitError::Down);
        }
        if inner.queue.len() >= QUEUE_MAX {
            return Err(SubmitError::Full);
        }
        inner.last_id += 1;
        let id = inner.last_id;
        inner.unanswered.insert(id, sender);
        inner.queue.push_back(Request {
            id,
            shard,
            body: Some(body),
        });
        drop(inner);
        self.wake.notify_one();
        Ok(receiver)
    }

    /// A link session began: requests are taken. All earlier ones fail.
    pub fn open(&self, link_session: u64) {
        let mut inner = self.inner.lock();
        inner.forget();
        inner.open = true;
        inner.link_session = link_session;
    }

    /// The link is lost: all requests fail at once, and new ones until it opens again.
    pub fn lost(&self) {
        let mut inner = self.inner.lock();
        inner.forget();
        inner.open = false;
    }

    /// A link session was resumed: requests are taken again.
    pub fn resumed(&self) {
        self.inner.lock().open = true;
    }

    /// Whether anything waits to be sent.
    pub fn waiting(&self) -> bool {
        !self.inner.lock().queue.is_empty()
    }

    /// The next frame's requests. Those that nobody waits for any more are left out.
    pub fn take(&self) -> Vec<Request> {
        let mut inner = self.inner.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < FRAME_REQUESTS_MAX && bytes < FRAME_BYTES {
            let Some(request) = inner.queue.pop_front() else {
                break;
            };
            if inner
                .unanswered
                .get(&request.id)
                .is_none_or(oneshot::Sender::is_closed)
            {
                inner.unanswered.remove(&request.id);
                continue;
            }
            bytes += request.encoded_len();
            taken.push(request);
        }
        taken
    }

    /// Hands an answer to whoever waits for it.
    pub fn answer(&self, response: Response) {
        let mut inner = self.inner.lock();
        let link_session = inner.link_session;
        let waiter = inner.unanswered.remove(&response.id);
        drop(inner);
        if let (Some(waiter), Some(body)) = (waiter, response.body) {
            // Whoever no longer waits has already taken another way.
            let _ = waiter.send(Reply { body, link_session });
        }
    }
}

impl Inner {
    fn forget(&mut self) {
        self.queue = VecDeque::new();
        self.unanswered = HashMap::new();
    }
}
