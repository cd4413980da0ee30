//! `parlance tail`: every event of a user's conversations, in order and once, also across gateways and reconnects.
//!
//! It starts with what is new. After each connect, and when the gateway says so, it lists the conversations and
//! fetches what it has missed; a push that leaves a gap is filled from the history first.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use parlance_client::{Client, ClientError, Push, PushStream, random_part};
use parlance_proto::client::v1::{
    ConversationsRequest, Direction, Event, HistoryRequest, ReadCursor, history_request,
};
use serde::Serialize;

use super::view::EventView;
use super::{Actor, say};
use crate::args::TailArgs;
use crate::commands::Session;
use crate::exit;
use crate::output::Output;

/// Between attempts to connect again; a gateway that drains says itself how long.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Attempts in a row that fail before it gives up.
const ATTEMPTS_MAX: u32 = 60;

/// One line of JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Event(EventView),
    ReadCursor {
        conversation_id: String,
        user_id: String,
        read_seq: u64,
    },
}

/// What has been printed.
struct Tail {
    output: Output,
    /// Per conversation the newest seq that is printed, or was there before the start.
    have: HashMap<String, u64>,
    /// Where the next list begins.
    cursor: String,
    printed: u64,
    count: u64,
    /// Where each conversation stood at the start is known.
    started: bool,
}

/// Why the reading of one connection ended without an error.
enum Ended {
    /// As many events as wanted.
    Enough,
    /// Connect again.
    Reconnect,
}

pub async fn run(session: &Session, args: TailArgs) -> anyhow::Result<()> {
    let actor = Actor::find(session, &args.actor).await?;
    let count = args.count.unwrap_or(u64::MAX);
    let mut tail = Tail {
        output: session.output,
        have: HashMap::new(),
        cursor: String::new(),
        printed: 0,
        count,
        started: false,
    };
    let mut first = true;
    let mut failed = 0;
    loop {
        let connected = match actor.log_in().await {
            Ok(connected) => connected,
            Err(e)
                if first || failed >= ATTEMPTS_MAX || exit::code_of(&e) == exit::NOT_POSSIBLE =>
            {
                return Err(e);
            }
            Err(_) => {
                failed += 1;
                tokio::time::sleep(RETRY_DELAY).await;
                continue;
            }
        };
        failed = 0;
        say(if first {
            "listening; Ctrl-C ends it"
        } else {
            "connected again"
        });
        match tail.follow(&actor, connected.0, connected.1).await {
            Ok(Ended::Enough) => return Ok(()),
            Ok(Ended::Reconnect) => {}
            Err(e) if e.is::<ClientError>() && exit::code_of(&e) == exit::FAILED => {
                say(format!("connection lost: {e:#}"))
            }
            Err(e) => return Err(e),
        }
        first = false;
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

impl Tail {
    async fn follow(
        &mut self,
        actor: &Actor,
        client: Client,
        mut pushes: PushStream,
    ) -> anyhow::Result<Ended> {
        self.catch_up(&client).await?;
        self.started = true;
        while self.printed < self.count {
            match pushes.recv().await {
                Some(Push::Event(event)) => self.event(&client, event).await?,
                Some(Push::ReadCursor(cursor)) => self.read_cursor(cursor)?,
                Some(Push::Resync { within_ms }) => {
                    tokio::time::sleep(random_part(within_ms)).await;
                    self.catch_up(&client).await?;
                }
                Some(Push::Reconnect { .. }) => return Ok(Ended::Reconnect),
                Some(Push::TokenExpiring { .. }) => {
                    client.renew(&actor.new_token()?, HashMap::new()).await?;
                }
                None => {
                    let closed = client.closed().await;
                    if closed.may_reconnect() {
                        return Ok(Ended::Reconnect);
                    }
                    anyhow::bail!("the gateway closed the connection: {closed}");
                }
            }
        }
        Ok(Ended::Enough)
    }

    /// Fetches what is new in each conversation that has changed; at the start only notes where each stands. Those whose shard does not answer
    /// are asked for again.
    async fn catch_up(&mut self, client: &Client) -> anyhow::Result<()> {
        let mut after = String::new();
        let mut unknown = false;
        let mut cursor = None;
        loop {
            let page = client
                .request(ConversationsRequest {
                    after,
                    since: Some(self.cursor.clone()),
                    ..ConversationsRequest::default()
                })
                .await?;
            cursor.get_or_insert(page.cursor);
            for conversation in page.conversations {
                if conversation.head_unknown {
                    unknown = true;
                } else if !self.started {
                    self.have
                        .insert(conversation.conversation_id, conversation.head_seq);
                } else {
                    self.fetch(client, &conversation.conversation_id, conversation.head_seq)
                        .await?;
                }
            }
            after = page.next_after;
            if after.is_empty() {
                let cursor = cursor.take().unwrap_or_default();
                if !std::mem::take(&mut unknown) {
                    self.cursor = cursor;
                    return Ok(());
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }

    async fn event(&mut self, client: &Client, event: Event) -> anyhow::Result<()> {
        let have = self
            .have
            .get(&event.conversation_id)
            .copied()
            .unwrap_or_default();
        if event.seq > have + 1 {
            self.fetch(client, &event.conversation_id.clone(), event.seq - 1)
                .await?;
        }
        self.print(event)
    }

    /// Prints from the history what comes after what is printed, up to and with `until`.
    async fn fetch(
        &mut self,
        client: &Client,
        conversation_id: &str,
        until: u64,
    ) -> anyhow::Result<()> {
        loop {
            let have = self.have.get(conversation_id).copied().unwrap_or_default();
            if have >= until || self.printed >= self.count {
                return Ok(());
            }
            let request = HistoryRequest {
                target: Some(history_request::Target::ConversationId(
                    conversation_id.to_owned(),
                )),
                start_seq: have + 1,
                direction: Direction::Forward.into(),
                ..HistoryRequest::default()
            };
            let page = client.request(request).await?;
            anyhow::ensure!(
                !page.events.is_empty(),
                "the history of {conversation_id} ends before {until}"
            );
            for event in page.events {
                self.print(event)?;
            }
        }
    }

    fn print(&mut self, event: Event) -> anyhow::Result<()> {
        let have = self.have.entry(event.conversation_id.clone()).or_default();
        if event.seq <= *have || self.printed >= self.count {
            return Ok(());
        }
        *have = event.seq;
        self.printed += 1;
        let view = EventView::from(event);
        let text = |_: &Output, line: &Line| match line {
            Line::Event(view) => view.line(),
            Line::ReadCursor { .. } => String::new(),
        };
        self.output
            .print(&Line::Event(view), text)
            .context("print an event")
    }

    /// For programs only: people see messages.
    fn read_cursor(&self, cursor: ReadCursor) -> anyhow::Result<()> {
        let ReadCursor {
            conversation_id,
            user_id,
            read_seq,
        } = cursor;
        if !self.output.is_json() {
            return Ok(());
        }
        self.output.line_json(&Line::ReadCursor {
            conversation_id,
            user_id,
            read_seq,
        })
    }
}
