//! What comes in on a session's connection: answers to its requests, and pushes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parlance_proto::client::v1 as proto;
use parlance_proto::common::v1::Error as ProtocolError;
use proto::server_frame::Body as Answer;
use rand::Rng;
use tokio::time::Instant;

use super::Outcome;
use super::online::{End, GAP_PATIENCE, NextPage, Online, Pending};
use crate::history::{SeenEvent, SeenRow, Way, What, text_digest};

const RETRY_AFTER: Duration = Duration::from_millis(200);

impl Online<'_> {
    pub(super) fn frame(&mut self, frame: proto::ServerFrame) -> Result<(), End> {
        let Some(body) = frame.body else {
            return Err(End::Lost("a frame without a body".into()));
        };
        if frame.request_id == 0 {
            return self.push(body);
        }
        let Some((pending, _)) = self.pending.remove(&frame.request_id) else {
            return Err(End::Lost(format!("an answer to nothing: {body:?}")));
        };
        match (body, pending) {
            (Answer::Error(error), pending) => self.refused(frame.request_id, error, pending),
            (Answer::Send(answer), Pending::Send { conversation }) => {
                self.acknowledged(frame.request_id, &conversation, &answer);
            }
            (
                Answer::History(answer),
                Pending::History {
                    conversation,
                    invoked_us,
                },
            ) => {
                self.fetched(&conversation, invoked_us, answer);
            }
            (Answer::Conversations(answer), Pending::List { invoked_us, cursor }) => {
                self.listed(invoked_us, cursor, answer);
            }
            (
                Answer::MarkRead(answer),
                Pending::MarkRead {
                    conversation,
                    asked,
                    invoked_us,
                    ..
                },
            ) => {
                let user = self.keep.spec.user.clone();
                self.keep.history.record(What::Marked {
                    user,
                    conversation,
                    invoked_us,
                    asked,
                    read_seq: answer.read_seq,
                });
            }
            (Answer::Ping(_), Pending::Ping) => {}
            (body, _) => return Err(End::Lost(format!("an answer of another kind: {body:?}"))),
        }
        Ok(())
    }

    fn push(&mut self, body: Answer) -> Result<(), End> {
        match body {
            Answer::Event(event) => {
                let conversation = event.conversation_id.clone();
                self.keep
                    .take_event(&conversation, event_as_seen(event), Way::Push);
            }
            Answer::Resync(notice) => {
                self.keep
                    .shared
                    .counters
                    .resyncs
                    .fetch_add(1, Ordering::Relaxed);
                let session = self.keep.spec.name.clone();
                self.keep.history.record(What::Resync { session });
                self.keep.shared.unpushed.lock().clear();
                for inbox in self.keep.inboxes.values_mut() {
                    inbox.resynced |= inbox.fetching;
                }
                let within = Duration::from_millis(u64::from(notice.within_ms));
                let wait = within.mul_f64(self.keep.rng.random_range(0.0..1.0));
                self.list_next = Some(NextPage::first(Instant::now() + wait));
            }
            Answer::Reconnect(notice) => {
                let within = Duration::from_millis(u64::from(notice.within_ms)) / 2;
                self.leave =
                    Some(Instant::now() + within.mul_f64(self.keep.rng.random_range(0.0..1.0)));
            }
            Answer::ReadCursor(_) => {}
            Answer::Error(error) => return Err(End::Lost(error.to_string())),
            other => return Err(End::Lost(format!("a push of an unknown kind: {other:?}"))),
        }
        Ok(())
    }

    fn acknowledged(&mut self, request_id: u64, conversation: &str, answer: &proto::SendResponse) {
        let finished = self
            .keep
            .lanes
            .get_mut(conversation)
            .and_then(|lane| lane.finish(request_id));
        let Some(outgoing) = finished else { return };
        let (seq, time_ms, duplicate) = (answer.seq, answer.time_ms, answer.duplicate);
        let (message, session) = (outgoing.message.clone(), self.keep.spec.name.clone());
        let (sender, id) = (message.sender.clone(), message.id.clone());
        self.keep.history.record(What::Acknowledged {
            message,
            session,
            seq,
            time_ms,
            duplicate,
        });
        let event = SeenEvent {
            seq,
            time_ms,
            sender,
            id,
            digest: text_digest(&outgoing.text),
        };
        self.keep.finish(outgoing, Outcome::Acknowledged { seq });
        self.keep.take_event(conversation, event, Way::Own);
    }

    fn fetched(&mut self, conversation: &str, invoked_us: u64, answer: proto::HistoryResponse) {
        self.head(conversation, invoked_us, answer.head_seq);
        for event in answer.events {
            let inbox = self.keep.inboxes.get(conversation);
            let way = inbox.map_or(Way::History, |inbox| inbox.way_of_fetched(event.seq));
            self.keep
                .take_event(conversation, event_as_seen(event), way);
        }
        let inbox = self
            .keep
            .inboxes
            .entry(conversation.to_owned())
            .or_default();
        (inbox.fetching, inbox.resynced) = (false, false);
        inbox.head = inbox.head.max(answer.head_seq);
        if inbox.last < inbox.head && inbox.gap_since.is_none() {
            inbox.gap_since = Some(Instant::now() - GAP_PATIENCE);
        }
    }

    fn listed(
        &mut self,
        invoked_us: u64,
        cursor: Option<String>,
        answer: proto::ConversationsResponse,
    ) {
        let first = cursor.is_none() && !answer.changes_only;
        let cursor = cursor.unwrap_or(answer.cursor);
        let (unknown, known): (Vec<_>, Vec<_>) = answer
            .conversations
            .into_iter()
            .partition(|row| row.head_unknown);
        self.keep.history.record(What::Listed {
            session: self.keep.spec.name.clone(),
            user: self.keep.spec.user.clone(),
            invoked_us,
            rows: known.iter().map(row_as_seen).collect(),
            whole: first && unknown.is_empty() && answer.next_after.is_empty(),
        });
        for row in known {
            let inbox = self
                .keep
                .inboxes
                .entry(row.conversation_id.clone())
                .or_default();
            inbox.head = inbox.head.max(row.head_seq);
            inbox.listed = inbox.listed.max(row.head_seq);
            let conversation = &row.conversation_id;
            let mut unpushed = self.keep.shared.unpushed.lock();
            unpushed.retain(|(of, seq)| of != conversation || *seq > row.head_seq);
            if inbox.last < inbox.head {
                // Due at the next tick: what the list knows and we have not is not on its way by itself.
                inbox.gap_since = Some(Instant::now() - GAP_PATIENCE);
            }
        }
        if !unknown.is_empty() {
            self.list_next = Some(NextPage::first(Instant::now() + RETRY_AFTER));
        } else if answer.next_after.is_empty() {
            // What is missing by now is known to be, and is fetched over all connections to come.
            self.keep.cursor = cursor;
            self.keep.is_online();
        } else {
            self.list_next = Some(NextPage {
                behind: Some((answer.next_after, cursor)),
                at: Instant::now(),
            });
        }
    }

    fn refused(&mut self, request_id: u64, error: ProtocolError, pending: Pending) {
        self.keep
            .shared
            .counters
            .error_answers
            .fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        match pending {
            Pending::Send { conversation } => self.send_refused(request_id, &conversation, &error),
            Pending::History { conversation, .. } => {
                let inbox = self.keep.inboxes.entry(conversation).or_default();
                inbox.fetching = false;
                inbox.gap_since = Some(now);
            }
            Pending::List { .. } => self.list_next = Some(NextPage::first(now + RETRY_AFTER)),
            Pending::MarkRead { .. } | Pending::Ping => {}
        }
    }

    fn send_refused(&mut self, request_id: u64, conversation: &str, error: &ProtocolError) {
        let Some(lane) = self.keep.lanes.get_mut(conversation) else {
            return;
        };
        let session = self.keep.spec.name.clone();
        if error.is_retryable() {
            let rest = RETRY_AFTER.max(Duration::from_millis(u64::from(error.retry_after_ms)));
            lane.rest_until = Some(Instant::now() + rest);
            if let Some(message) = lane.fail(request_id).cloned() {
                self.keep.history.record(What::Doubt {
                    message,
                    session,
                    code: error.code().name(),
                    reason: error.to_string(),
                });
            }
        } else if let Some(outgoing) = lane.finish(request_id) {
            let (message, code) = (outgoing.message.clone(), error.code().name());
            self.keep.history.record(What::Refused {
                message,
                session,
                code: code.clone(),
            });
            self.keep.finish(outgoing, Outcome::Refused { code });
        }
    }

    fn head(&self, conversation: &str, invoked_us: u64, head_seq: u64) {
        let (session, conversation) = (self.keep.spec.name.clone(), conversation.to_owned());
        self.keep.history.record(What::Head {
            session,
            conversation,
            invoked_us,
            head_seq,
        });
    }
}

/// A row of a list as the history writes it.
pub fn row_as_seen(row: &proto::Conversation) -> SeenRow {
    SeenRow {
        conversation: row.conversation_id.clone(),
        head_seq: row.head_seq,
        read_seq: row.read_seq,
        unread_count: row.unread_count,
    }
}

/// An event as the history writes it.
pub fn event_as_seen(event: proto::Event) -> SeenEvent {
    let (id, text) = match event.body {
        Some(proto::event::Body::Message(message)) => {
            let text = match message.content.and_then(|content| content.kind) {
                Some(proto::content::Kind::Text(text)) => text,
                other => format!("{other:?}"),
            };
            (message.client_message_id, text)
        }
        None => (String::new(), "no body".into()),
    };
    SeenEvent {
        seq: event.seq,
        time_ms: event.time_ms,
        sender: event.sender,
        id,
        digest: text_digest(&text),
    }
}
