//! The requests of one link: queued, sent and unanswered. Any task submits; the link's own task drains. Another task of
//! the link gives up what has waited for too long, so that no request needs a timer of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::link::v1::{Request, Response, request, response};
use prost::Message as _;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep};

use super::Topology;

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

/// A request is given up so long after its deadline at most.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// An answer and the link session that it came on.
#[derive(Debug)]
pub struct Reply {
    /// What the node said.
    pub body: response::Body,
    pub link_session: u64,
}

/// Why a request that was submitted has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// Its time is over.
    Deadline,
    /// Another node leads its shard now.
    LeaderMoved,
}

/// The answer of a request; fails if the link is lost before.
pub type Answer = oneshot::Receiver<Result<Reply, GivenUp>>;

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
    /// Told when something is unanswered and nobody looks after it.
    unwatched: Notify,
    last_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    open: bool,
    link_session: u64,
    /// Ids and encoded requests.
    queue: VecDeque<(u64, Bytes)>,
    queued_bytes: usize,
    unanswered: HashMap<u64, Waiter>,
    watched: bool,
    swept: Option<Instant>,
}

/// Who waits for an answer.
#[derive(Debug)]
struct Waiter {
    shard: ShardId,
    deadline: Instant,
    answer: oneshot::Sender<Result<Reply, GivenUp>>,
}

impl Requests {
    /// Queues a request.
    pub fn submit(
        &self,
        shard: ShardId,
        body: request::Body,
        deadline: Instant,
    ) -> Result<Answer, SubmitError> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let request = Request {
            id,
            shard: shard.0,
            body: Some(body),
        };
        let request = Bytes::from(request.encode_to_vec());
        let (answer, receiver) = oneshot::channel();
        let mut inner = self.inner.lock();
        if !inner.open {
            return Err(SubmitError::Down);
        }
        inner.sweep();
        if inner.is_full() {
            return Err(SubmitError::Full);
        }
        let waiter = Waiter {
            shard,
            deadline,
            answer,
        };
        inner.unanswered.insert(id, waiter);
        inner.queued_bytes += request.len();
        let first = inner.queue.is_empty();
        inner.queue.push_back((id, request));
        let watched = std::mem::replace(&mut inner.watched, true);
        drop(inner);
        if !watched {
            self.unwatched.notify_one();
        }
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
    pub fn take(&self) -> Vec<Bytes> {
        let mut inner = self.inner.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < FRAME_REQUESTS_MAX && bytes < FRAME_BYTES {
            let Some((id, request)) = inner.queue.pop_front() else {
                break;
            };
            inner.queued_bytes -= request.len();
            let waiter = inner.unanswered.get(&id);
            if waiter.is_none_or(|waiter| waiter.answer.is_closed()) {
                inner.unanswered.remove(&id);
                continue;
            }
            bytes += request.len();
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
            let _ = waiter.answer.send(Ok(Reply { body, link_session }));
        }
    }

    /// Gives up, as long as the link exists, what is unanswered after its deadline or when another node than this one
    /// leads its shard.
    pub async fn give_up(&self, node: NodeId, mut topology: watch::Receiver<Topology>) {
        loop {
            if !self.inner.lock().watched {
                self.unwatched.notified().await;
            }
            // Looks again even without news: a request may have been submitted by what was known before them.
            tokio::select! {
                news = topology.changed() => if news.is_err() {
                    return;
                },
                () = sleep(LOOK_EVERY) => {}
            }
            let known = topology.borrow_and_update();
            let elsewhere = |shard| known.leader(shard).is_some_and(|leader| leader != node);
            self.inner.lock().give_up(Instant::now(), elsewhere);
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
            self.unanswered
                .retain(|_, waiter| !waiter.answer.is_closed());
            self.swept = Some(now);
        }
    }

    fn give_up(&mut self, now: Instant, elsewhere: impl Fn(ShardId) -> bool) {
        let over = |waiter: &Waiter| waiter.deadline <= now || elsewhere(waiter.shard);
        for (_, waiter) in self.unanswered.extract_if(|_, waiter| over(waiter)) {
            let why = if waiter.deadline <= now {
                GivenUp::Deadline
            } else {
                GivenUp::LeaderMoved
            };
            // Whoever no longer waits need not know.
            let _ = waiter.answer.send(Err(why));
        }
        self.watched = !self.unanswered.is_empty();
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

    const WHILE: Duration = Duration::from_secs(60);

    fn heads() -> request::Body {
        request::Body::Heads(Heads::default())
    }

    #[test]
    fn unanswered_requests_are_bounded_by_those_that_somebody_waits_for() {
        let requests = Requests::default();
        requests.open(1);
        let submit = || {
            let deadline = Instant::now() + WHILE;
            let submitted = requests.submit(ShardId(1), heads(), deadline);
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

    #[test]
    fn what_is_late_or_another_nodes_is_given_up() {
        let requests = Requests::default();
        requests.open(1);
        let now = Instant::now();
        let submit = |shard, seconds| {
            let deadline = now + Duration::from_secs(seconds);
            requests.submit(ShardId(shard), heads(), deadline)
        };
        let (late, moved, stays) = (submit(1, 1), submit(2, 9), submit(1, 9));
        let given_up = |answer: Result<Answer, SubmitError>| answer.unwrap().try_recv().ok();
        let look = |at| {
            requests
                .inner
                .lock()
                .give_up(at, |shard| shard == ShardId(2))
        };
        look(now + Duration::from_secs(2));
        assert!(matches!(given_up(late), Some(Err(GivenUp::Deadline))));
        assert!(matches!(given_up(moved), Some(Err(GivenUp::LeaderMoved))));
        assert_eq!(requests.take().len(), 1, "the others are not sent any more");
        assert!(requests.inner.lock().watched);
        look(now + Duration::from_secs(9));
        assert!(matches!(given_up(stays), Some(Err(GivenUp::Deadline))));
        assert!(!requests.inner.lock().watched);
    }
}
