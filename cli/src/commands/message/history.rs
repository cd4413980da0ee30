//! `parlance history`.

use anyhow::Context;
use parlance_proto::client::v1::{Direction, HistoryRequest, history_request};
use serde::Serialize;

use super::Actor;
use super::view::EventView;
use crate::args::HistoryArgs;
use crate::commands::Session;
use crate::output::say;

#[derive(Serialize)]
struct History {
    conversation_id: String,
    head_seq: u64,
    more: bool,
    events: Vec<EventView>,
}

pub async fn run(session: &Session, args: HistoryArgs) -> anyhow::Result<()> {
    let actor = Actor::find(session, &args.actor).await?;
    let (client, _) = actor.log_in().await?;
    let direction = if args.forward {
        Direction::Forward
    } else {
        Direction::Backward
    };
    let request = HistoryRequest {
        target: Some(history_request::Target::WithUser(String::from(&args.with))),
        start_seq: args.start_seq,
        limit: args.limit,
        direction: direction.into(),
        ..HistoryRequest::default()
    };
    let answer = client.history(request).await.context("read the history")?;
    let history = History {
        conversation_id: answer.conversation_id,
        head_seq: answer.head_seq,
        more: answer.more,
        events: answer.events.into_iter().map(EventView::from).collect(),
    };
    if history.events.is_empty() {
        say("there are no such events");
        if !session.output.is_json() {
            return Ok(());
        }
    }
    session.output.print(&history, |_, history| {
        history
            .events
            .iter()
            .map(EventView::line)
            .collect::<Vec<_>>()
            .join("\n")
    })
}
