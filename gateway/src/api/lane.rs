//! Lanes keep the order of what one session sends to one conversation: each has one batch with the shard at a time. The
//! shard is looked up for every attempt, so a lane follows moved slots between two batches and never with two at once.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::ConversationId;
use parlance_proto::link::v1::Send;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::batch::{Settled, expire, fill, refuse, split_by_results};
use super::{Api, slot_of};
use crate::cluster::{Backoff, Place};
use crate::session::{Caller, Unanswered};

pub use super::batch::Waiting;

const PAUSE_LEAST: Duration = Duration::from_millis(5);
const PAUSE_MOST: Duration = Duration::from_millis(200);

/// Which lane.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    session: Uuid,
    conversation: ConversationId,
}

impl Hash for Key {
    /// Session ids are random, and what one session has unanswered is bounded: that is spread enough.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.session.hash(state);
    }
}

/// What waits behind the batches in progress; a lane is here as long as its task runs.
#[derive(Debug, Default)]
pub struct Lanes(Mutex<HashMap<Key, VecDeque<Waiting>>>);

impl Lanes {
    /// Adds a message to its lane; gives it back if the lane stood still and is to be run with it.
    fn push(&self, key: &Key, waiting: Waiting) -> Option<Waiting> {
        let mut lanes = self.0.lock();
        if let Some(lane) = lanes.get_mut(key) {
            lane.push_back(waiting);
            return None;
        }
        lanes.insert(key.clone(), VecDeque::new());
        Some(waiting)
    }

    /// The lane's next batch; false, and the lane stands still, if there is nothing to send.
    fn fill(&self, key: &Key, batch: &mut Vec<Waiting>) -> bool {
        let mut lanes = self.0.lock();
        if let Some(lane) = lanes.get_mut(key) {
            fill(batch, lane);
        }
        if batch.is_empty() {
            lanes.remove(key);
        }
        !batch.is_empty()
    }
}

/// Puts a message at the end of its lane, and starts the lane if it stood still.
pub fn enqueue(
    api: &Arc<Api>,
    request: &Unanswered,
    conversation: ConversationId,
    waiting: Waiting,
) {
    let key = Key {
        session: request.session,
        conversation,
    };
    if let Some(first) = api.lanes.push(&key, waiting) {
        let lane = Lane {
            slot: Place::Slot(slot_of(request, &key.conversation)),
            caller: request.caller().clone(),
            key,
        };
        tokio::spawn(lane.run(api.clone(), first));
    }
}

/// A lane in motion.
struct Lane {
    key: Key,
    slot: Place,
    caller: Arc<Caller>,
}

impl Lane {
    /// Works the lane off; ends when nothing waits in it.
    async fn run(self, api: Arc<Api>, first: Waiting) {
        let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
        let mut batch = vec![first];
        // Also before the first batch: what came in one read with the first message goes along.
        while api.lanes.fill(&self.key, &mut batch) {
            batch = self.apart(&api, batch);
            if batch.is_empty() {
                continue;
            }
            let (done, rest) = self.attempt(&api, batch).await;
            for settled in done {
                self.answer(&api, settled);
            }
            batch = rest;
            if batch.is_empty() {
                backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
            } else {
                sleep(backoff.pause()).await;
            }
        }
    }

    /// Refuses what comes behind a refused message; returns the others.
    fn apart(&self, api: &Api, batch: Vec<Waiting>) -> Vec<Waiting> {
        let (chains, conversation) = (&self.caller.chains, &self.key.conversation);
        let mut whole = Vec::with_capacity(batch.len());
        for waiting in batch {
            let after = waiting.after.as_ref();
            if after.is_some_and(|id| chains.is_broken(conversation, id.as_str())) {
                self.answer(api, refuse(waiting, behind_a_refused()));
            } else {
                chains.mended(conversation, &waiting.message.client_message_id);
                whole.push(waiting);
            }
        }
        whole
    }

    /// Tells whoever asked.
    fn answer(&self, api: &Api, (waiting, result): Settled) {
        // Before the answer: the client may send it again as soon as it hears.
        if result.as_ref().is_err_and(Error::is_retryable) {
            let id = &waiting.message.client_message_id;
            refused(api, &self.caller, &self.key.conversation, id);
        }
        // Whoever asked may have gone.
        let _ = waiting.done.send(result);
    }

    /// One batch to the shard's leader.
    async fn attempt(&self, api: &Api, mut batch: Vec<Waiting>) -> (Vec<Settled>, Vec<Waiting>) {
        let deadline = batch.iter().map(|w| w.deadline).min();
        let deadline = deadline.unwrap_or_else(Instant::now);
        let messages = batch.iter_mut().map(|w| std::mem::take(&mut w.message));
        let ask = Send {
            app_id: (&self.caller.user.app).into(),
            conversation_id: (&self.key.conversation).into(),
            sender: (&self.caller.user.id).into(),
            session_id: self.key.session.to_string(),
            messages: messages.collect(),
        };
        let answered = api.router.call(self.slot, &ask, deadline).await;
        for (waiting, message) in batch.iter_mut().zip(ask.messages) {
            waiting.message = message;
        }
        match answered {
            Ok(answered) => {
                let (mut done, rest) = split_by_results(batch, answered.answer.results);
                let error = "the message could not be stored in time";
                let error = Error::new(ErrorCode::Unavailable, error);
                let (over, rest) = expire(rest, Instant::now(), &error);
                done.extend(over);
                (done, rest)
            }
            Err(failure) => {
                batch.iter_mut().for_each(|w| w.doubt |= failure.doubt);
                if failure.error.is_retryable() && !failure.full {
                    return expire(batch, Instant::now(), &failure.error);
                }
                let refused = batch.into_iter().map(|w| refuse(w, failure.error.clone()));
                (refused.collect(), Vec::new())
            }
        }
    }
}

/// A send was refused for the moment: what comes behind it will be too.
pub fn refused(api: &Api, caller: &Caller, conversation: &ConversationId, client_message_id: &str) {
    let kept = usize::try_from(api.limits.requests_in_flight_max).unwrap_or(usize::MAX);
    let chains = &caller.chains;
    chains.broke(conversation, client_message_id, kept);
}

fn behind_a_refused() -> Error {
    let why = "the message before it was refused: send that one again first";
    Error {
        field: "send.after".into(),
        ..Error::new(ErrorCode::Unavailable, why)
    }
}
