//! The messages of one session to one conversation: one batch at a time is with the shard, the others wait, so
//! that no retry overtakes. Pure: `lane.rs` does the asking.

use std::collections::VecDeque;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::ClientMessageId;
use parlance_proto::link::v1::{MessageResult, OutgoingMessage};
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::messages::Sent;

/// Messages in one batch.
const BATCH_MAX: usize = 64;
/// Bytes after which a batch takes no further message.
const BATCH_BYTES: usize = 256 * 1024;

/// A message that is not answered yet.
#[derive(Debug)]
pub struct Waiting {
    /// What is to be stored.
    pub message: OutgoingMessage,
    /// The message that it comes behind, if it must.
    pub after: Option<ClientMessageId>,
    /// After this it is answered, stored or not.
    pub deadline: Instant,
    /// A node may have stored it.
    pub doubt: bool,
    /// Who waits for the answer.
    pub done: oneshot::Sender<Result<Sent, Error>>,
}

/// A message and its final answer.
pub type Settled = (Waiting, Result<Sent, Error>);

/// Fills a batch, which may hold messages to be sent again, from the front of what waits.
pub fn fill(batch: &mut Vec<Waiting>, waiting: &mut VecDeque<Waiting>) {
    let mut bytes: usize = batch.iter().map(|w| w.message.encoded_len()).sum();
    while batch.len() < BATCH_MAX && bytes < BATCH_BYTES {
        let Some(next) = waiting.pop_front() else {
            break;
        };
        bytes += next.message.encoded_len();
        batch.push(next);
    }
}

/// Sorts a batch by its results: what is final, and what is to be sent again, both in order. After the first
/// retryable error nothing is final, so that a retry keeps the order.
pub fn split_by_results(
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
        match result.map(outcome) {
            Some(Err(error)) if error.is_retryable() => {
                waiting.doubt |= error.code() == ErrorCode::OutcomeUnknown;
                again.push(waiting);
            }
            Some(Ok(sent)) => done.push((waiting, Ok(sent))),
            Some(Err(error)) => done.push(refuse(waiting, error)),
            None => again.push(waiting),
        }
    }
    (done, again)
}

fn outcome(result: MessageResult) -> Result<Sent, Error> {
    match result {
        MessageResult {
            error: Some(error), ..
        } => Err(error),
        MessageResult { seq: 0, .. } => {
            let error = "a node returned an empty result";
            Err(Error::new(ErrorCode::Internal, error))
        }
        MessageResult {
            seq,
            time_ms,
            duplicate,
            error: None,
        } => Ok(Sent {
            seq,
            time_ms,
            duplicate,
        }),
    }
}

/// Takes out the messages whose time is over, with their answer.
pub fn expire(batch: Vec<Waiting>, now: Instant, error: &Error) -> (Vec<Settled>, Vec<Waiting>) {
    let (over, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(|w| w.deadline <= now);
    let settled = over.into_iter().map(|w| refuse(w, error.clone()));
    (settled.collect(), rest)
}

/// A message that is not tried again. What an attempt before may have stored is not refused by this one's error, except
/// by a conflict: what has the message's id is another message.
pub fn refuse(waiting: Waiting, error: Error) -> Settled {
    let error = if waiting.doubt && error.code() != ErrorCode::Conflict {
        let why = "may or may not be stored: send it again with the same id";
        Error::new(ErrorCode::OutcomeUnknown, why)
    } else {
        error
    };
    (waiting, Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn waiting(number: u64) -> Waiting {
        Waiting {
            message: OutgoingMessage {
                client_message_id: number.to_string(),
                ..OutgoingMessage::default()
            },
            after: None,
            deadline: Instant::now() + Duration::from_secs(number),
            doubt: false,
            done: oneshot::channel().0,
        }
    }

    fn failed(code: ErrorCode) -> MessageResult {
        MessageResult {
            error: Some(Error::new(code, "")),
            ..MessageResult::default()
        }
    }

    fn stored(seq: u64) -> MessageResult {
        MessageResult {
            seq,
            ..MessageResult::default()
        }
    }

    fn ids(batch: &[Waiting]) -> Vec<&str> {
        batch
            .iter()
            .map(|w| w.message.client_message_id.as_str())
            .collect()
    }

    #[test]
    fn nothing_overtakes_a_message_that_is_sent_again() {
        let mut lane: VecDeque<_> = (1..=4).map(waiting).collect();
        let mut batch = Vec::new();
        fill(&mut batch, &mut lane);
        lane.push_back(waiting(5));
        let results = vec![
            stored(9),
            failed(ErrorCode::Conflict),
            failed(ErrorCode::Overloaded),
            failed(ErrorCode::Conflict),
        ];
        let (done, mut again) = split_by_results(batch, results);
        assert_eq!(done.len(), 2);
        assert_eq!(done[0].1.as_ref().unwrap().seq, 9);
        assert_eq!(done[1].1.as_ref().unwrap_err().code(), ErrorCode::Conflict);
        fill(&mut again, &mut lane);
        assert_eq!(ids(&again), ["3", "4", "5"]);
    }

    #[test]
    fn missing_results_are_sent_again_and_batches_are_bounded() {
        let results = vec![stored(9)];
        let (done, again) = split_by_results(vec![waiting(1), waiting(2)], results);
        assert_eq!((done.len(), ids(&again)), (1, vec!["2"]));
        let mut lane: VecDeque<_> = (1..=100).map(waiting).collect();
        let mut batch = Vec::new();
        fill(&mut batch, &mut lane);
        assert_eq!(batch.len(), BATCH_MAX);
    }

    #[test]
    fn a_result_that_says_nothing_is_not_a_stored_message() {
        let (done, again) = split_by_results(vec![waiting(1)], vec![MessageResult::default()]);
        assert!(again.is_empty());
        let error = done[0].1.as_ref().unwrap_err();
        assert_eq!(error.code(), ErrorCode::Internal);
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
        assert_eq!(ids(&rest), ["60"]);
    }

    #[test]
    fn a_refusal_after_a_doubt_is_no_proof_that_nothing_was_stored() {
        for (doubt, said, told) in [
            (true, ErrorCode::PermissionDenied, ErrorCode::OutcomeUnknown),
            (true, ErrorCode::Conflict, ErrorCode::Conflict),
            (
                false,
                ErrorCode::PermissionDenied,
                ErrorCode::PermissionDenied,
            ),
        ] {
            let batch = vec![Waiting {
                doubt,
                ..waiting(1)
            }];
            let (done, again) = split_by_results(batch, vec![failed(said)]);
            assert!(again.is_empty());
            assert_eq!(done[0].1.as_ref().unwrap_err().code(), told);
        }
    }
}
