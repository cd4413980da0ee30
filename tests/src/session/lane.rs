//! The sends of one session to one conversation: a window of them on their way, the rest waiting, always in order.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Outcome;
use crate::history::MessageKey;

/// Sends of one conversation on their way at once.
const WINDOW: usize = 8;

/// A send that is not answered yet.
pub(super) struct Outgoing {
    pub message: MessageKey,
    pub to: String,
    pub text: String,
    pub done: oneshot::Sender<Outcome>,
    /// Of the request on the present connection.
    pub request_id: Option<u64>,
}

/// In the order in which the app sent.
#[derive(Default)]
pub(super) struct Lane {
    waiting: VecDeque<Outgoing>,
    /// A retryable error came: nothing more leaves until all on their way are answered, so that the retries
    /// go out in order.
    held: bool,
    /// Back-off after a retryable error.
    pub rest_until: Option<Instant>,
}

impl Lane {
    pub(super) fn push(&mut self, outgoing: Outgoing) {
        self.waiting.push_back(outgoing);
    }

    /// The next send that may leave now.
    pub(super) fn next_to_leave(&mut self) -> Option<&mut Outgoing> {
        if self.rest_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let on_their_way = self.on_their_way();
        if self.held {
            if on_their_way > 0 {
                return None;
            }
            self.held = false;
        }
        if on_their_way >= WINDOW {
            return None;
        }
        self.waiting
            .iter_mut()
            .find(|outgoing| outgoing.request_id.is_none())
    }

    /// The one that was given a place on the wire (request id 0) has got its id.
    pub(super) fn left(&mut self, request_id: u64) {
        let leaving = self
            .waiting
            .iter_mut()
            .find(|outgoing| outgoing.request_id == Some(0));
        leaving
            .into_iter()
            .for_each(|outgoing| outgoing.request_id = Some(request_id));
    }

    /// Takes out what a final answer has come for.
    pub(super) fn finish(&mut self, request_id: u64) -> Option<Outgoing> {
        let at = self
            .waiting
            .iter()
            .position(|outgoing| outgoing.request_id == Some(request_id))?;
        self.waiting.remove(at)
    }

    /// A retryable error came for one: it will leave again.
    pub(super) fn fail(&mut self, request_id: u64) -> Option<&MessageKey> {
        self.held = true;
        let outgoing = self
            .waiting
            .iter_mut()
            .find(|outgoing| outgoing.request_id == Some(request_id))?;
        outgoing.request_id = None;
        Some(&outgoing.message)
    }

    /// The connection is gone: all must leave again. Gives those that were on their way.
    pub(super) fn disconnect(&mut self) -> Vec<MessageKey> {
        self.held = false;
        self.rest_until = None;
        let on_their_way = self
            .waiting
            .iter_mut()
            .filter(|outgoing| outgoing.request_id.is_some());
        on_their_way
            .map(|outgoing| {
                outgoing.request_id = None;
                outgoing.message.clone()
            })
            .collect()
    }

    fn on_their_way(&self) -> usize {
        self.waiting
            .iter()
            .filter(|outgoing| outgoing.request_id.is_some())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(ids: &[&str]) -> Lane {
        let mut lane = Lane::default();
        for id in ids {
            let message = MessageKey {
                conversation: "c".into(),
                sender: "a".into(),
                id: (*id).into(),
            };
            let (done, _) = oneshot::channel();
            lane.push(Outgoing {
                message,
                to: "b".into(),
                text: String::new(),
                done,
                request_id: None,
            });
        }
        lane
    }

    fn leave(lane: &mut Lane, request_id: u64) -> Option<String> {
        let outgoing = lane.next_to_leave()?;
        outgoing.request_id = Some(request_id);
        Some(outgoing.message.id.clone())
    }

    #[test]
    fn after_an_error_the_rest_waits_and_goes_again_in_order() {
        let mut lane = lane(&["1", "2", "3", "4"]);
        assert_eq!(leave(&mut lane, 11).as_deref(), Some("1"));
        assert_eq!(leave(&mut lane, 12).as_deref(), Some("2"));
        assert_eq!(leave(&mut lane, 13).as_deref(), Some("3"));
        lane.fail(11);
        assert_eq!(leave(&mut lane, 14), None);
        assert!(lane.finish(12).is_some());
        lane.fail(13);
        let order: Vec<_> = (20..24).filter_map(|id| leave(&mut lane, id)).collect();
        assert_eq!(order, ["1", "3", "4"]);
    }

    #[test]
    fn a_lost_connection_sends_all_again_in_order() {
        let mut lane = lane(&["1", "2", "3"]);
        leave(&mut lane, 1);
        leave(&mut lane, 2);
        assert_eq!(lane.disconnect().len(), 2);
        let order: Vec<_> = (5..9).filter_map(|id| leave(&mut lane, id)).collect();
        assert_eq!(order, ["1", "2", "3"]);
    }
}
