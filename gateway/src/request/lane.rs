//! The messages of one session to one conversation: one batch at a time is with the shard, the others wait, so
//! that no retry overtakes. Pure: `send.rs` does the asking.

use std::collections::VecDeque;

use parlance_proto::client::v1::SendResponse;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::link::v1::{MessageResult, OutgoingMessage};
use prost::Message as _;
use tokio::time::Instant;

/// Messages in one batch.
const BATCH_MAX: usize = 64;
/// Bytes after which a batch takes no further message.
const BATCH_BYTES: usize = 256 * 1024;

/// A message that is not answered yet.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The client's request.
    pub request_id: u64,
    /// What it wants stored.
    pub message: OutgoingMessage,
    /// After this it is answered, stored or not.
    pub deadline: Instant,
    /// A node may have stored it.
    pub doubt: bool,
}

/// A message and its final answer.
pub type Settled = (Waiting, Result<SendResponse, Error>);

/// Messages that wait behind the batch in progress.
#[derive(Debug, Default)]
pub struct Lane {
    waiting: VecDeque<Waiting>,
}

impl Lane {
    /// Adds a message at the end.
    pub fn push(&mut self, message: Waiting) {
        self.waiting.push_back(message);
    }

    /// Fills a batch, which may hold messages to be sent again, in order.
    pub fn fill(&mut self, batch: &mut Vec<Waiting>) {
        let mut bytes: usize = batch.iter().map(|w| w.message.encoded_len()).sum();
        while batch.len() < BATCH_MAX && bytes < BATCH_BYTES {
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            bytes += next.message.encoded_len();
            batch.push(next);
        }
    }
}

/// Sorts a batch by its results: what is final, and what is to be sent again, both in order. After the first
/// retryable error nothing is final, so that a retry keeps the order.
pub fn settle(
    conversation_id: &str,
    batch: Vec<Waiting>,
    results: Vec<MessageResult>,
) -> (Vec<Settled>, Vec<Waiting>) {
    let (mut done, mut again) = (Vec::with_capacity(batch.len()), Vec::new());
    let mut results = results.into_iter();
    for mut waiting in batch {
        let result = if again.is_empty() {
            results.next()
        } else {
            None
        };
        match result {
            Some(MessageResult {
                error: Some(error), ..
            }) if error.is_retryable() => {
                waiting.doubt |= error.code() == ErrorCode::OutcomeUnknown;
                again.push(waiting);
            }
            Some(MessageResult {
                error: Some(error), ..
            }) => done.push((waiting, Err(error))),
            Some(MessageResult {
                seq,
                time_ms,
                duplicate,
                error: None,
            }) => {
                let response = SendResponse {
                    conversation_id: conversation_id.to_owned(),
                    seq,
                    time_ms,
                    duplicate,
                };
                done.push((waiting, Ok(response)));
            }
            None => again.push(waiting),
        }
    }
    (done, again)
}

/// Takes out the messages whose time is over, with their answer.
pub fn expire(batch: Vec<Waiting>, now: Instant, error: &Error) -> (Vec<Settled>, Vec<Waiting>) {
    let (over, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(|w| w.deadline <= now);
    let settled = over.into_iter().map(|w| {
        let answer = if w.doubt {
            Error::new(
                ErrorCode::OutcomeUnknown,
                "may or may not be stored: send it again with the same id",
            )
        } else {
            error.clone()
        };
        (w, Err(answer))
    });
    (settled.collect(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn waiting(request_id: u64) -> Waiting {
        let deadline = Instant::now() + Duration::from_secs(request_id);
        Waiting {
            request_id,
            message: OutgoingMessage::default(),
            deadline,
            doubt: false,
        }
    }

    fn failed(code: ErrorCode) -> MessageResult {
        MessageResult {
            error: Some(Error::new(code, "")),
            ..MessageResult::default()
        }
    }

    fn ids(batch: &[Waiting]) -> Vec<u64> {
        batch.iter().map(|w| w.request_id).collect()
    }

    #[test]
    fn nothing_overtakes_a_message_that_is_sent_again() {
        let mut lane = Lane::default();
        (1..=4).for_each(|id| lane.push(waiting(id)));
        let mut batch = Vec::new();
        lane.fill(&mut batch);
        lane.push(waiting(5));
        let results = vec![
            MessageResult {
                seq: 9,
                ..MessageResult::default()
            },
            failed(ErrorCode::Conflict),
            failed(ErrorCode::Overloaded),
            failed(ErrorCode::Conflict),
        ];
        let (done, mut again) = settle("c", batch, results);
        assert_eq!(
            done.iter().map(|(w, _)| w.request_id).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(done[0].1.as_ref().unwrap().seq, 9);
        assert_eq!(done[1].1.as_ref().unwrap_err().code(), ErrorCode::Conflict);
        lane.fill(&mut again);
        assert_eq!(ids(&again), [3, 4, 5]);
    }

    #[test]
    fn missing_results_are_sent_again_and_batches_are_bounded() {
        let (done, again) = settle(
            "c",
            vec![waiting(1), waiting(2)],
            vec![MessageResult::default()],
        );
        assert_eq!((done.len(), ids(&again)), (1, vec![2]));
        let mut lane = Lane::default();
        (1..=100).for_each(|id| lane.push(waiting(id)));
        let mut batch = Vec::new();
        lane.fill(&mut batch);
        assert_eq!(batch.len(), BATCH_MAX);
    }

    #[test]
    fn a_doubtful_message_ends_as_unknown() {
        let doubtful = Waiting {
            doubt: true,
            ..waiting(1)
        };
        let unavailable = Error::new(ErrorCode::Unavailable, "");
        let now = Instant::now() + Duration::from_secs(3);
        let (done, rest) = expire(vec![doubtful, waiting(2), waiting(60)], now, &unavailable);
        let codes: Vec<_> = done
            .iter()
            .map(|(_, r)| r.as_ref().unwrap_err().code())
            .collect();
        assert_eq!(codes, [ErrorCode::OutcomeUnknown, ErrorCode::Unavailable]);
        assert_eq!(ids(&rest), [60]);
    }
}
