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
use crate::session::{Caller, User};

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
pub fn enqueue(api: &Arc<Api>, caller: &Caller, conversation: ConversationId, waiting: Waiting) {
    let key = Key {
        session: caller.session,
        conversation,
    };
    if let Some(first) = api.lanes.push(&key, waiting) {
        let lane = Lane {
            slot: Place::Slot(slot_of(caller, &key.conversation)),
            sender: caller.user.clone(),
            key,
        };
        tokio::spawn(lane.run(api.clone(), first));
    }
}

/// A lane in motion.
struct Lane {
    key: Key,
    slot: Place,
    sender: User,
}

impl Lane {
    /// Works the lane off; ends when nothing waits in it.
    async fn run(self, api: Arc<Api>, first: Waiting) {
        let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
        let mut batch = vec![first];
        // Also before the first batch: what came in one read with the first message goes along.
        while api.lanes.fill(&self.key, &mut batch) {
            let (done, rest) = self.attempt(&api, batch).await;
            for (waiting, result) in done {
                // Whoever asked may have gone.
                let _ = waiting.done.send(result);
            }
            batch = rest;
            if batch.is_empty() {
                backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
            } else {
                sleep(backoff.pause()).await;
            }
        }
    }

    /// One batch to the shard's leader.
    async fn attempt(&self, api: &Api, mut batch: Vec<Waiting>) -> (Vec<Settled>, Vec<Waiting>) {
        let deadline = batch.iter().map(|w| w.deadline).min();
        let deadline = deadline.unwrap_or_else(Instant::now);
        let messages = batch.iter_mut().map(|w| std::mem::take(&mut w.message));
        let ask = Send {
            app_id: (&self.sender.app).into(),
            conversation_id: (&self.key.conversation).into(),
            sender: (&self.sender.id).into(),
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
                if failure.error.is_retryable() {
                    return expire(batch, Instant::now(), &failure.error);
                }
                let refused = batch.into_iter().map(|w| refuse(w, failure.error.clone()));
                (refused.collect(), Vec::new())
            }
        }
    }
}
