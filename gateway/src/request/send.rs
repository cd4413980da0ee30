//! Sending a message: checked here, put in a lane, and sent until it is stored, refused or out of time.

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::client::v1::{SendRequest, send_request, server_frame};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::check_client_message_id;
use parlance_proto::limits::CONTENT_BYTES_MAX;
use parlance_proto::link::v1::{OutgoingMessage, Send, request, response};
use prost::Message as _;
use tokio::time::Instant;

use super::lane::{Lane, Settled, Waiting, expire, settle};
use super::{Target, conversation_of, finish, unexpected};
use crate::context::Context;
use crate::link::backoff::Backoff;
use crate::session::{Session, User};

const PAUSE_LEAST: Duration = Duration::from_millis(5);
const PAUSE_MOST: Duration = Duration::from_millis(200);

/// Puts the message in its lane, and starts the lane if it stood still.
pub(super) fn start(
    context: &Arc<Context>,
    session: &Arc<Session>,
    request_id: u64,
    request: SendRequest,
) {
    let Some(user) = session.user() else {
        return finish(
            session,
            request_id,
            "send",
            Err(Error::new(ErrorCode::NotLoggedIn, "log in first")),
        );
    };
    let (conversation_id, message) = match check(user, request) {
        Ok(checked) => checked,
        Err(error) => return finish(session, request_id, "send", Err(error)),
    };
    let deadline = Instant::now() + context.config.limits.request_timeout();
    let waiting = Waiting {
        request_id,
        message,
        deadline,
        doubt: false,
    };
    let mut lanes = session.lanes.lock();
    if let Some(lane) = lanes.get_mut(conversation_id.as_str()) {
        lane.push(waiting);
        return;
    }
    let conversation_id: Arc<str> = conversation_id.into();
    lanes.insert(conversation_id.clone(), Lane::default());
    drop(lanes);
    tokio::spawn(run(
        context.clone(),
        session.clone(),
        conversation_id,
        waiting,
    ));
}

fn check(user: &User, request: SendRequest) -> Result<(String, OutgoingMessage), Error> {
    let target = request.target.map(|t| match t {
        send_request::Target::ToUser(peer) => Target::User(peer),
        send_request::Target::ConversationId(id) => Target::Conversation(id),
    });
    let conversation_id = conversation_of(user, target, "send")?;
    check_client_message_id(&request.client_message_id)
        .map_err(|e| Error::invalid("send.client_message_id", e.to_string()))?;
    let content = request.content.filter(|c| c.kind.is_some());
    let content = content
        .ok_or_else(|| Error::invalid("send.content", "a text or a custom content is needed"))?;
    let bytes = content.encoded_len();
    if bytes > CONTENT_BYTES_MAX {
        let message = format!("the content has {bytes} bytes, {CONTENT_BYTES_MAX} are allowed");
        return Err(Error {
            field: "send.content".into(),
            ..Error::new(ErrorCode::PayloadTooLarge, message)
        });
    }
    Ok((
        conversation_id,
        OutgoingMessage {
            client_message_id: request.client_message_id,
            content: Some(content),
        },
    ))
}

/// Works a lane off; ends when nothing waits in it.
async fn run(
    context: Arc<Context>,
    session: Arc<Session>,
    conversation_id: Arc<str>,
    first: Waiting,
) {
    let Some(user) = session.user() else { return };
    let shard = context.conversation_shard(&user.app_id, &conversation_id);
    let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
    let mut batch = vec![first];
    loop {
        {
            let mut lanes = session.lanes.lock();
            if let Some(lane) = lanes.get_mut(&conversation_id) {
                lane.fill(&mut batch);
            }
            if batch.is_empty() {
                lanes.remove(&conversation_id);
                if lanes.is_empty() {
                    lanes.shrink_to_fit();
                }
                return;
            }
        }
        let asked = batch.len();
        let (done, rest) = attempt(&context, &session, user, &conversation_id, shard, batch).await;
        let progress = done.len();
        answer(&session, done);
        batch = rest;
        if batch.is_empty() || progress == asked {
            backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
        } else {
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

/// One batch to the shard's leader.
async fn attempt(
    context: &Context,
    session: &Session,
    user: &User,
    conversation_id: &str,
    shard: u32,
    mut batch: Vec<Waiting>,
) -> (Vec<Settled>, Vec<Waiting>) {
    let deadline = batch
        .iter()
        .map(|w| w.deadline)
        .min()
        .unwrap_or_else(Instant::now);
    let body = request::Body::Send(Send {
        app_id: user.app_id.to_string(),
        conversation_id: conversation_id.to_owned(),
        sender: user.user_id.to_string(),
        session_id: session.id.to_string(),
        messages: batch.iter().map(|w| w.message.clone()).collect(),
    });
    let unavailable = Error::new(
        ErrorCode::Unavailable,
        "the message could not be stored in time",
    );
    let (mut done, rest) = match context.router.call(shard, body, deadline).await {
        Ok(answer) => match answer.body {
            response::Body::Send(result) => settle(conversation_id, batch, result.results),
            _ => {
                return (
                    batch.into_iter().map(|w| (w, Err(unexpected()))).collect(),
                    Vec::new(),
                );
            }
        },
        Err(failure) => {
            batch.iter_mut().for_each(|w| w.doubt |= failure.doubt);
            if !failure.error.is_retryable() {
                let refused = batch.into_iter().map(|w| (w, Err(failure.error.clone())));
                return (refused.collect(), Vec::new());
            }
            let (done, rest) = expire(batch, Instant::now(), &failure.error);
            return (done, rest);
        }
    };
    let (over, rest) = expire(rest, Instant::now(), &unavailable);
    done.extend(over);
    (done, rest)
}

fn answer(session: &Session, done: Vec<Settled>) {
    for (waiting, result) in done {
        finish(
            session,
            waiting.request_id,
            "send",
            result.map(server_frame::Body::Send),
        );
    }
}
