//! `parlance send`.

use parlance_client::{ClientError, text_to};
use parlance_proto::ids::ClientMessageId;
use serde::Serialize;

use super::Actor;
use crate::args::SendArgs;
use crate::commands::Session;

#[derive(Serialize)]
struct Sent {
    conversation_id: String,
    seq: u64,
    time_ms: i64,
    duplicate: bool,
    client_message_id: String,
}

pub async fn run(session: &Session, args: SendArgs) -> anyhow::Result<()> {
    let actor = Actor::find(session, &args.actor).await?;
    let (client, _) = actor.log_in().await?;
    let id = match args.id {
        Some(id) => id,
        #[allow(clippy::disallowed_methods, reason = "no two messages may have one id")]
        None => ClientMessageId::new(uuid::Uuid::new_v4().to_string())?,
    };
    let sent = client
        .request(text_to(&args.to, &id, args.text))
        .await
        .map_err(|e| explain(e, &id))?;
    let sent = Sent {
        conversation_id: sent.conversation_id,
        seq: sent.seq,
        time_ms: sent.time_ms,
        duplicate: sent.duplicate,
        client_message_id: String::from(&id),
    };
    session.output.print(&sent, |_, sent| {
        let again = if sent.duplicate {
            " (it was stored before)"
        } else {
            ""
        };
        format!("stored as {} of {}{again}", sent.seq, sent.conversation_id)
    })
}

/// A send whose outcome is unknown can be repeated safely, with its id.
fn explain(error: ClientError, id: &ClientMessageId) -> anyhow::Error {
    let what = if error.outcome_unknown() {
        format!("send: it may be stored; repeat it with --id {id}, which stores it once")
    } else {
        "send".to_owned()
    };
    anyhow::Error::from(error).context(what)
}
