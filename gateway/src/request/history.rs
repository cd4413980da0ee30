//! Reading a conversation's events by range.

use parlance_proto::client::v1::{HistoryRequest, history_request, server_frame};
use parlance_proto::common::v1::Error;
use parlance_proto::limits::{HISTORY_EVENTS_DEFAULT, HISTORY_EVENTS_MAX};
use parlance_proto::link::v1::{History, request, response};

use super::{Target, ask, conversation_of, unexpected};
use crate::context::Context;
use crate::session::User;

pub(super) async fn run(
    context: &Context,
    user: &User,
    request: HistoryRequest,
) -> Result<server_frame::Body, Error> {
    let target = request.target.map(|t| match t {
        history_request::Target::WithUser(peer) => Target::User(peer),
        history_request::Target::ConversationId(id) => Target::Conversation(id),
    });
    let conversation_id = conversation_of(user, target, "history")?;
    let limit = if request.limit == 0 {
        HISTORY_EVENTS_DEFAULT
    } else {
        request.limit.min(HISTORY_EVENTS_MAX)
    };
    let shard = context.conversation_shard(&user.app_id, &conversation_id);
    let body = request::Body::History(History {
        app_id: user.app_id.to_string(),
        conversation_id,
        user_id: user.user_id.to_string(),
        start_seq: request.start_seq,
        limit,
        direction: request.direction,
    });
    match ask(context, shard, body).await?.body {
        response::Body::History(history) => Ok(server_frame::Body::History(history)),
        _ => Err(unexpected()),
    }
}
