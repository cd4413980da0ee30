//! The requests of one link: queued, sent and unanswered. Any task submits; the link's own task drains.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::ids::ShardId;
use parlance_proto::link::v1::{Request, Response, request, response};
use prost::Message as _;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Requests of one link that wait to be written, and that wait for an answer.
const QUEUE_MAX: usize = 32_768;
/// Above it, those that nobody waits for are looked for this often at most.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);
/// Their bytes.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests in one frame.
const FRAME_REQUESTS_MAX: usize = 1024;
/// Bytes after which a frame takes no further request.
const FRAME_BYTES: usize = 2 * 1024 * 1024;

/// An answer and the link session that it came on.
#[derive(Debug)]
pub struct Reply {
    /// What the node said.
    pub body: response::Body,
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
    queue: VecDeque<(Request, usize)>,
    queued_bytes: usize,
    unanswered: HashMap<u64, oneshot::Sender<Reply>>,
    swept: Option<Instant>,
}

impl Requests {
    /// Queues a request. The receiver fails if the link is lost before the answer.
    pub fn submit(
        &self,
        shard: ShardId,
        body: request::Body,
    ) -> Result<oneshot::Receiver<Reply>, SubmitError> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.inner.lock();
        if !inner.open {
            return Err(SubmitError::Down);
        }
        inner.sweep();
        if inner.is_full() {
            return Err(SubmitError::Full);
        }
        inner.last_id += 1;
        let id = inner.last_id;
        inner.unanswered.insert(id, sender);
        let request = Request {
            id,
            shard: shard.0,
            body: Some(body),
        };
        let bytes = request.encoded_len();
        inner.queued_bytes += bytes;
        let first = inner.queue.is_empty();
        inner.queue.push_back((request, bytes));
        drop(inner);
        // The link takes all that is there: it need not be told of what joins a queue.
        if first {
            self.wake.notify_one();
        }
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
            let Some((request, length)) = inner.queue.pop_front() else {
                break;
            };
            inner.queued_bytes -= length;
            if inner
                .unanswered
                .get(&request.id)
                .is_none_or(oneshot::Sender::is_closed)
            {
                inner.unanswered.remove(&request.id);
                continue;
            }
            bytes += length;
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
    fn is_full(&self) -> bool {
        self.queue.len() >= QUEUE_MAX
            || self.queued_bytes >= QUEUE_BYTES_MAX
            || self.unanswered.len() >= QUEUE_MAX
    }

    /// A node that is slow or silent may leave many unanswered whose time is over.
    fn sweep(&mut self) {
        let now = Instant::now();
        let due = self.swept.is_none_or(|at| now >= at + SWEEP_PAUSE);
        if due && self.unanswered.len() >= QUEUE_MAX {
            self.unanswered.retain(|_, waiter| !waiter.is_closed());
            self.swept = Some(now);
        }
    }

    fn forget(&mut self) {
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
        self.unanswered = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_proto::link::v1::Heads;

    #[test]
    fn unanswered_requests_are_bounded_by_those_that_somebody_waits_for() {
        let requests = Requests::default();
        requests.open(1);
        let submit = || {
            let submitted = requests.submit(ShardId(1), request::Body::Heads(Heads::default()));
            requests.take();
            submitted
        };
        let mut waiting: Vec<_> = (0..QUEUE_MAX).map(|_| submit().unwrap()).collect();
        waiting.truncate(QUEUE_MAX / 2);
        while waiting.len() < QUEUE_MAX {
            waiting.push(submit().unwrap());
        }
        assert_eq!(submit().unwrap_err(), SubmitError::Full);
    }
}
