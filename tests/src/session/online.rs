//! One connection of a session: sync first and again when told to, sends out, events in.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parlance_client::text_to;
use parlance_proto::client::v1 as proto;
use proto::client_frame::Body as Ask;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Command;
use super::run::Keep;
use crate::client::{CALL_TIMEOUT, CallError, Connection, history_forward};
use crate::history::{What, text_digest};

const TICK: Duration = Duration::from_millis(50);
const PING_EVERY: Duration = Duration::from_secs(5);
/// A gap that the next pushes do not fill by themselves is fetched.
pub(super) const GAP_PATIENCE: Duration = Duration::from_millis(300);
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
pub(super) enum Pending {
    Send {
        conversation: String,
    },
    History {
        conversation: String,
        invoked_us: u64,
    },
    List {
        invoked_us: u64,
        /// The first page of the list said so; none for the first page itself.
        cursor: Option<String>,
    },
    MarkRead {
        conversation: String,
        invoked_us: u64,
        asked: u64,
        /// Only held: whoever asked waits for its end.
        _done: oneshot::Sender<()>,
    },
    Ping,
}

/// A page of the list.
pub(super) struct NextPage {
    /// Where it begins, and what the first page said as the list's cursor; none for the first page.
    pub(super) behind: Option<(String, String)>,
    /// When to ask for it.
    pub(super) at: Instant,
}

impl NextPage {
    /// Of a list that begins then.
    pub(super) fn first(at: Instant) -> Self {
        Self { behind: None, at }
    }
}

/// A session while it is connected.
pub(super) struct Online<'a> {
    pub(super) keep: &'a mut Keep,
    connection: Connection,
    pub(super) pending: HashMap<u64, (Pending, Instant)>,
    /// The page of the list to ask for.
    pub(super) list_next: Option<NextPage>,
    last_ping: Instant,
    /// The gateway asked us to go: no new sends from the first time on, gone by the second.
    pub(super) leave: Option<Instant>,
}

impl<'a> Online<'a> {
    pub(super) fn new(keep: &'a mut Keep, connection: Connection) -> Self {
        let now = Instant::now();
        let list_next = Some(NextPage::first(now));
        Self {
            keep,
            connection,
            pending: HashMap::new(),
            list_next,
            last_ping: now,
            leave: None,
        }
    }

    pub(super) async fn serve(mut self) -> End {
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
            Some(Command::MarkRead {
                conversation,
                seq,
                done,
            }) => {
                let target = proto::mark_read_request::Target::ConversationId(conversation.clone());
                let ask = Ask::MarkRead(proto::MarkReadRequest {
                    target: Some(target),
                    seq,
                });
                self.ask(
                    ask,
                    Pending::MarkRead {
                        conversation,
                        invoked_us: self.keep.history.now_us(),
                        asked: seq,
                        _done: done,
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
                let ask = Ask::Send(text_to(&outgoing.to, &outgoing.message.id, &outgoing.text));
                let (message, session) = (outgoing.message.clone(), self.keep.spec.name.clone());
                outgoing.request_id = Some(0);
                self.keep.history.record(What::Attempt {
                    message: message.clone(),
                    session,
                    connection: self.keep.connection,
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
        if let Some(NextPage { behind, .. }) = self.list_next.take_if(|next| next.at <= now) {
            let invoked_us = self.keep.history.now_us();
            let (after, cursor) = behind.unzip();
            let ask = Ask::Conversations(proto::ConversationsRequest {
                after: after.unwrap_or_default(),
                since: Some(self.keep.cursor.clone()),
                ..proto::ConversationsRequest::default()
            });
            let list = Pending::List { invoked_us, cursor };
            self.ask(ask, list).await?;
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
}
