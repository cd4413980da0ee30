//! Messages: sending them in order, and reading what a conversation has.

use std::sync::Arc;

use parlance_proto::client::v1::{Content, Direction, Event, Message, event};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::event::encode_body;
use parlance_proto::ids::{ClientMessageId, ConversationId};
use parlance_proto::limits::{CONTENT_BYTES_MAX, HISTORY_EVENTS_DEFAULT, HISTORY_EVENTS_MAX};
use parlance_proto::link::v1::{History, OutgoingMessage};
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::lane::{self, Waiting};
use super::{Api, slot_of};
use crate::bounds::Refusal;
use crate::session::{Caller, Unanswered};

/// A message to be sent.
#[derive(Debug)]
pub struct NewMessage {
    pub conversation: ConversationId,
    /// The same id again means the same message.
    pub client_message_id: ClientMessageId,
    /// What it says.
    pub content: Content,
    /// The send that it comes behind, if it must: if that one is refused for the moment, this one is too.
    pub after: Option<ClientMessageId>,
}

/// A message that is stored: on disk on a majority of its shard's replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its place in the conversation.
    pub seq: u64,
    /// When it was put in order, in ms since 1970 UTC.
    pub time_ms: i64,
    /// It had been stored before.
    pub duplicate: bool,
}

/// What part of a conversation is wanted.
#[derive(Debug)]
pub struct Range {
    pub conversation: ConversationId,
    /// The first seq, inclusive; 0 means the newest or the oldest.
    pub start_seq: u64,
    /// Events; 0 means [`HISTORY_EVENTS_DEFAULT`], more than [`HISTORY_EVENTS_MAX`] means that.
    pub limit: u32,
    pub direction: Direction,
    /// Bytes of events; 0 means the most that an answer may have.
    pub max_bytes: u32,
}

/// Events of a conversation.
#[derive(Debug)]
pub struct Page {
    /// In ascending seq, whatever the direction asked for.
    pub events: Vec<Event>,
    /// The newest seq of the conversation; 0 if it has no events.
    pub head_seq: u64,
    /// There are more events in the direction asked for.
    pub more: bool,
}

/// Sends a message. It has its place behind what the caller sent to that conversation before as soon as this returns;
/// the future only waits for the answer, and dropping it does not take the message back.
///
/// # Errors
/// The message breaks a rule, or too many were sent: it is not sent, and that is known at once.
pub fn send(
    api: &Arc<Api>,
    request: &Unanswered,
    message: NewMessage,
) -> Result<impl Future<Output = Result<Sent, Error>> + Send + use<>, Error> {
    let checked = check(&message.content).map_err(|error| invalid(request, error));
    let allowed = checked.and_then(|()| api.admit_message(request));
    if allowed.as_ref().is_err_and(Error::is_retryable) {
        refused(api, request, &message);
    }
    allowed?;
    let (done, answer) = oneshot::channel();
    let body = encode_body(event::Body::Message(Message {
        client_message_id: (&message.client_message_id).into(),
        content: Some(message.content),
    }));
    let waiting = Waiting {
        message: OutgoingMessage {
            client_message_id: (&message.client_message_id).into(),
            body,
        },
        after: message.after,
        deadline: Instant::now() + api.limits.request_timeout(),
        doubt: false,
        done,
    };
    lane::enqueue(api, request, message.conversation, waiting);
    let request = request.clone();
    Ok(async move {
        let _unanswered = request;
        let dropped = "the gateway stopped before the message was answered";
        let answer = answer.await;
        answer.unwrap_or_else(|_| Err(Error::new(ErrorCode::OutcomeUnknown, dropped)))
    })
}

/// A message that breaks a rule is none: it counts as a request, so that sending such ones is no way around the limits.
pub fn invalid(caller: &Caller, error: Error) -> Error {
    let counted = caller.rates.request();
    counted.map_or_else(Refusal::count, |()| error)
}

/// A message was refused before it was sent, in a way that can pass.
pub fn refused(api: &Api, caller: &Caller, message: &NewMessage) {
    let id = message.client_message_id.as_str();
    lane::refused(api, caller, &message.conversation, id);
}

/// Reads events, in ascending seq.
pub async fn history(api: &Api, caller: &Caller, range: Range) -> Result<Page, Error> {
    let ask = History {
        app_id: (&caller.user.app).into(),
        conversation_id: (&range.conversation).into(),
        user_id: (&caller.user.id).into(),
        start_seq: range.start_seq,
        limit: match range.limit {
            0 => HISTORY_EVENTS_DEFAULT,
            limit => limit.min(HISTORY_EVENTS_MAX),
        },
        direction: range.direction.into(),
        max_bytes: range.max_bytes,
    };
    let found = api.ask(slot_of(caller, &range.conversation), &ask).await?;
    let events = found.events.into_iter().map(Event::decode);
    let events = events.collect::<Result<_, _>>().map_err(|error| {
        tracing::error!(conversation = %range.conversation, %error, "an event cannot be read");
        Error::new(ErrorCode::Internal, "an event cannot be read")
    })?;
    Ok(Page {
        events,
        head_seq: found.head_seq,
        more: found.more,
    })
}

fn check(content: &Content) -> Result<(), Error> {
    if content.kind.is_none() {
        let rule = "the content must be a text or custom";
        return Err(Error::invalid("send.content", rule));
    }
    let bytes = content.encoded_len();
    if bytes > CONTENT_BYTES_MAX {
        let rule = format!("the content has {bytes} bytes, {CONTENT_BYTES_MAX} are allowed");
        return Err(Error {
            field: "send.content".into(),
            ..Error::new(ErrorCode::PayloadTooLarge, rule)
        });
    }
    Ok(())
}
