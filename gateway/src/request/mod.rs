//! Requests of logged-in clients, one file per noun: check the request, ask the shard, map the answer.

mod conversations;
mod history;
pub mod lane;
mod mark_read;
mod send;

use std::sync::Arc;

use parlance_proto::client::v1::{client_frame, server_frame};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::DirectConversation;
use parlance_proto::link::v1::request;
use tokio::time::Instant;

use crate::context::Context;
use crate::link::route::Answer;
use crate::metrics::REQUESTS;
use crate::session::{Session, User};

/// Starts a request and answers it later. The session has given it a place among its unanswered requests.
pub fn start(
    context: &Arc<Context>,
    session: &Arc<Session>,
    request_id: u64,
    body: client_frame::Body,
) {
    if let client_frame::Body::Send(request) = body {
        send::start(context, session, request_id, request);
        return;
    }
    let (context, session) = (context.clone(), session.clone());
    tokio::spawn(async move {
        let (kind, result) = match (session.user(), body) {
            (Some(user), client_frame::Body::History(r)) => {
                ("history", history::run(&context, user, r).await)
            }
            (Some(user), client_frame::Body::Conversations(r)) => {
                ("conversations", conversations::run(&context, user, r).await)
            }
            (Some(user), client_frame::Body::MarkRead(r)) => {
                ("mark_read", mark_read::run(&context, user, r).await)
            }
            _ => (
                "unknown",
                Err(Error::new(
                    ErrorCode::Unsupported,
                    "this request is not known",
                )),
            ),
        };
        finish(&session, request_id, kind, result);
    });
}

/// Answers a request, counts it and gives its place back.
fn finish(
    session: &Session,
    request_id: u64,
    kind: &'static str,
    result: Result<server_frame::Body, Error>,
) {
    count(kind, result.as_ref().err());
    session.answer(request_id, result.unwrap_or_else(server_frame::Body::Error));
    session.end_request();
}

/// Counts an answered request.
pub fn count(kind: &'static str, error: Option<&Error>) {
    let code = error.map_or_else(|| "ok".to_owned(), |e| e.code().name());
    metrics::counter!(REQUESTS, "kind" => kind, "code" => code).increment(1);
}

/// What a request points at.
enum Target {
    User(String),
    Conversation(String),
}

/// The conversation meant, if the user is one of its members.
fn conversation_of(user: &User, target: Option<Target>, kind: &str) -> Result<String, Error> {
    match target {
        None => Err(Error::invalid(
            &format!("{kind}.target"),
            "a user or a conversation is needed",
        )),
        Some(Target::User(peer)) => {
            let direct = DirectConversation::between(&user.user_id, &peer);
            direct
                .map(|c| c.to_string())
                .map_err(|e| Error::invalid(&format!("{kind}.target"), e.to_string()))
        }
        Some(Target::Conversation(id)) => {
            let direct = DirectConversation::parse(&id)
                .map_err(|e| Error::invalid(&format!("{kind}.conversation_id"), e.to_string()))?;
            if direct.peer_of(&user.user_id).is_none() {
                return Err(Error::new(
                    ErrorCode::PermissionDenied,
                    "not a member of this conversation",
                ));
            }
            Ok(id)
        }
    }
}

/// A request to a shard whose outcome does not matter when it fails: reads, and cursors that only rise.
async fn ask(context: &Context, shard: u32, body: request::Body) -> Result<Answer, Error> {
    let deadline = Instant::now() + context.config.limits.request_timeout();
    context
        .router
        .call(shard, body, deadline)
        .await
        .map_err(|failure| failure.error)
}

/// A node answered with another kind than was asked for.
fn unexpected() -> Error {
    Error::new(
        ErrorCode::Internal,
        "a node gave an answer of the wrong kind",
    )
}
