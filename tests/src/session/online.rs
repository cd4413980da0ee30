//! One connection of a session: sync first and again when told to, sends out, events in.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parlance_proto::client::v1 as proto;
use parlance_proto::common::v1::Error as ProtocolError;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;
use rand::Rng;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::run::Keep;
use super::{Command, Outcome};
use crate::client::{CALL_TIMEOUT, CallError, Connection, history_forward, send_request};
use crate::history::{SeenEvent, Way, What, text_digest};

const TICK: Duration = Duration::from_millis(50);
const PING_EVERY: Duration = Duration::from_secs(5);
/// A gap that the next pushes do not fill by themselves is fetched.
const GAP_PATIENCE: Duration = Duration::from_millis(300);
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Requests without an answer at once, well below any gateway's limit.
const PENDING_MAX: usize = 24;
/// How long a session that must leave its gateway waits for the answers on their way.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(super) enum End {
    Stopped,
    Lost(String),
}

/// What an answer is awaited for.
enum Pending {
    Send {
        conversation: String,
    },
    History {
        conversation: String,
        invoked_us: u64,
    },
    List {
        invoked_us: u64,
    },
    MarkRead {
        conversation: String,
        asked: u64,
    },
    Ping,
}

/// A session while it is connected.
pub(super) struct Online<'a> {
    keep: &'a mut Keep,
    connection: Connection,
    pending: HashMap<u64, (Pending, Instant)>,
    /// The page of the list to ask for, and when.
    list_next: Option<(String, Instant)>,
    last_ping: Instant,
    /// The gateway asked us to go: no new sends from the first time on, gone by the second.
    leave: Option<Instant>,
}

impl<'a> Online<'a> {
    pub fn new(keep: &'a mut Keep, connection: Connection) -> Self {
        let now = Instant::now();
        let list_next = Some((String::new(), now));
        Self {
            keep,
            connection,
            pending: HashMap::new(),
            list_next,
            last_ping: now,
            leave: None,
        }
    }

    pub async fn serve(mut self) -> End {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                command = self.keep.commands.recv() => self.command(command).await,
                frame = self.connection.next() => match frame {
                    Ok(frame) => self.frame(frame),
                    Err(error) => Err(End::Lost(error.to_string())),
                },
                _ = ticks.tick() => self.tick().await,
            };
            let step = match step {
                Ok(()) => self.pump().await,
                end => end,
            };
            match step {
                Ok(()) => {}
                Err(End::Stopped) => {
                    self.connection.close().await;
                    return End::Stopped;
                }
                Err(end) => return end,
            }
        }
    }

    async fn command(&mut self, command: Option<Command>) -> Result<(), End> {
        match command {
            Some(Command::MarkRead { conversation, seq }) => {
                let target = proto::mark_read_request::Target::ConversationId(conversation.clone());
                let ask = Ask::MarkRead(proto::MarkReadRequest {
                    target: Some(target),
                    seq,
                });
                self.ask(
                    ask,
                    Pending::MarkRead {
                        conversation,
                        asked: seq,
                    },
                )
                .await
                .map(drop)
            }
            Some(Command::Reconnect) => Err(End::Lost("told to reconnect".into())),
            command => match self.keep.accept(command) {
                true => Err(End::Stopped),
                false => Ok(()),
            },
        }
    }

    /// Sends what may leave, in order.
    async fn pump(&mut self) -> Result<(), End> {
        if self.leave.is_some_and(|at| Instant::now() >= at) {
            return Ok(());
        }
        let conversations: Vec<String> = self.keep.lanes.keys().cloned().collect();
        for conversation in conversations {
            while self.pending.len() < PENDING_MAX {
                let Some(lane) = self.keep.lanes.get_mut(&conversation) else {
                    break;
                };
                let Some(outgoing) = lane.next_to_leave() else {
                    break;
                };
                // Known before it is written: a write that fails half way may have arrived.
                let digest = text_digest(&outgoing.text);
                let ask = Ask::Send(send_request(
                    &outgoing.to,
                    &outgoing.message.id,
                    &outgoing.text,
                ));
                let (message, session) = (outgoing.message.clone(), self.keep.spec.name.clone());
                outgoing.request_id = Some(0);
                self.keep.history.record(What::Attempt {
                    message: message.clone(),
                    session,
                    digest,
                });
                let request_id = self
                    .ask(
                        ask,
                        Pending::Send {
                            conversation: conversation.clone(),
                        },
                    )
                    .await?;
                let lane = self.keep.lanes.get_mut(&conversation);
                lane.into_iter().for_each(|lane| lane.left(request_id));
            }
        }
        Ok(())
    }

    async fn ask(&mut self, ask: Ask, pending: Pending) -> Result<u64, End> {
        let request_id = self
            .connection
            .submit(ask)
            .await
            .map_err(|error| End::Lost(error.to_string()))?;
        self.pending.insert(request_id, (pending, Instant::now()));
        Ok(request_id)
    }

    async fn tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self
            .pending
            .values()
            .any(|(_, since)| now - *since > CALL_TIMEOUT)
        {
            return Err(End::Lost(CallError::TimedOut.to_string()));
        }
        if let Some(at) = self.leave
            && now >= at
            && (self.pending.is_empty() || now >= at + LEAVE_PATIENCE)
        {
            return Err(End::Lost("the gateway asked us to go".into()));
        }
        if now - self.last_ping > PING_EVERY {
            self.last_ping = now;
            self.ask(Ask::Ping(proto::PingRequest {}), Pending::Ping)
                .await?;
        }
        if let Some((after, at)) = self.list_next.take() {
            if now < at {
                self.list_next = Some((after, at));
            } else {
                let invoked_us = self.keep.history.now_us();
                let ask = Ask::Conversations(proto::ConversationsRequest { after, limit: 0 });
                self.ask(ask, Pending::List { invoked_us }).await?;
            }
        }
        self.fetch_missing(now).await
    }

    async fn fetch_missing(&mut self, now: Instant) -> Result<(), End> {
        let wanted: Vec<(String, u64)> = self
            .keep
            .inboxes
            .iter_mut()
            .filter(|(_, inbox)| {
                !inbox.fetching
                    && inbox
                        .gap_since
                        .is_some_and(|since| now - since > GAP_PATIENCE)
            })
            .map(|(conversation, inbox)| (conversation.clone(), inbox.last + 1))
            .collect();
        for (conversation, from) in wanted {
            self.keep
                .shared
                .counters
                .gap_fetches
                .fetch_add(1, Ordering::Relaxed);
            self.fetch(conversation, from).await?;
        }
        Ok(())
    }

    async fn fetch(&mut self, conversation: String, from: u64) -> Result<(), End> {
        self.keep
            .inboxes
            .entry(conversation.clone())
            .or_default()
            .fetching = true;
        let ask = Ask::History(history_forward(&conversation, from));
        let invoked_us = self.keep.history.now_us();
        self.ask(
            ask,
            Pending::History {
                conversation,
                invoked_us,
            },
        )
        .await
        .map(drop)
    }

    fn frame(&mut self, frame: proto::ServerFrame) -> Result<(), End> {
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
            (Answer::Conversations(answer), Pending::List { invoked_us }) => {
                self.listed(invoked_us, answer)
            }
            (
                Answer::MarkRead(answer),
                Pending::MarkRead {
                    conversation,
                    asked,
                },
            ) => {
                let user = self.keep.spec.user.clone();
                self.keep.history.record(What::Marked {
                    user,
                    conversation,
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
            Answer::Resync(_) => {
                self.keep
                    .shared
                    .counters
                    .resyncs
                    .fetch_add(1, Ordering::Relaxed);
                self.list_next = Some((String::new(), Instant::now()));
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
            self.keep
                .take_event(conversation, event_as_seen(event), Way::History);
        }
        let inbox = self
            .keep
            .inboxes
            .entry(conversation.to_owned())
            .or_default();
        inbox.fetching = false;
        inbox.head = inbox.head.max(answer.head_seq);
        if inbox.last < inbox.head && inbox.gap_since.is_none() {
            inbox.gap_since = Some(Instant::now() - GAP_PATIENCE);
        }
    }

    fn listed(&mut self, invoked_us: u64, answer: proto::ConversationsResponse) {
        for row in answer.conversations {
            self.head(&row.conversation_id, invoked_us, row.head_seq);
            let inbox = self.keep.inboxes.entry(row.conversation_id).or_default();
            inbox.head = inbox.head.max(row.head_seq);
            if inbox.last < inbox.head {
                // Due at the next tick: what the list knows and we have not is not on its way by itself.
                inbox.gap_since = Some(Instant::now() - GAP_PATIENCE);
            }
        }
        if answer.next_after.is_empty() {
            self.keep.shared.online.store(true, Ordering::SeqCst);
        } else {
            self.list_next = Some((answer.next_after, Instant::now()));
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
            Pending::List { .. } => self.list_next = Some((String::new(), now + RETRY_AFTER)),
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
