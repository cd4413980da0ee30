//! Moving a read cursor.

use parlance_proto::client::v1::{
    MarkReadRequest, MarkReadResponse, mark_read_request, server_frame,
};
use parlance_proto::common::v1::Error;
use parlance_proto::link::v1::{MarkRead, request, response};

use super::{Target, ask, conversation_of, unexpected};
use crate::context::Context;
use crate::session::User;

pub(super) async fn run(
    context: &Context,
    user: &User,
    request: MarkReadRequest,
) -> Result<server_frame::Body, Error> {
    let target = request.target.map(|t| match t {
        mark_read_request::Target::WithUser(peer) => Target::User(peer),
        mark_read_request::Target::ConversationId(id) => Target::Conversation(id),
    });
    let conversation_id = conversation_of(user, target, "mark_read")?;
    let shard = context.conversation_shard(&user.app_id, &conversation_id);
    let body = request::Body::MarkRead(MarkRead {
        app_id: user.app_id.to_string(),
        conversation_id: conversation_id.clone(),
        user_id: user.user_id.to_string(),
        seq: request.seq,
    });
    match ask(context, shard, body).await?.body {
        response::Body::MarkRead(result) => Ok(server_frame::Body::MarkRead(MarkReadResponse {
            conversation_id,
            read_seq: result.read_seq,
            unread_count: result.unread_count,
        })),
        _ => Err(unexpected()),
    }
}
