//! The conversation list: ids from the user's home shard, heads from the conversations' shards, merged in the
//! order of the ids.

use std::collections::{BTreeMap, HashMap};

use futures::future::try_join_all;
use parlance_proto::client::v1::{
    Conversation, ConversationsRequest, ConversationsResponse, server_frame,
};
use parlance_proto::common::v1::Error;
use parlance_proto::limits::CONVERSATIONS_PAGE_MAX;
use parlance_proto::link::v1::{Heads, ListConversations, request, response};

use super::{ask, unexpected};
use crate::context::Context;
use crate::session::User;

pub(super) async fn run(
    context: &Context,
    user: &User,
    request: ConversationsRequest,
) -> Result<server_frame::Body, Error> {
    let limit = if request.limit == 0 {
        CONVERSATIONS_PAGE_MAX
    } else {
        request.limit.min(CONVERSATIONS_PAGE_MAX)
    };
    let body = request::Body::ListConversations(ListConversations {
        app_id: user.app_id.to_string(),
        user_id: user.user_id.to_string(),
        after: request.after,
        limit,
    });
    let response::Body::ListConversations(page) =
        ask(context, context.home_shard(user), body).await?.body
    else {
        return Err(unexpected());
    };
    let mut by_shard: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for id in &page.conversation_ids {
        by_shard
            .entry(context.conversation_shard(&user.app_id, id))
            .or_default()
            .push(id.clone());
    }
    let heads = by_shard
        .into_iter()
        .map(|(shard, ids)| heads(context, user, shard, ids));
    let mut found: HashMap<String, Conversation> = try_join_all(heads)
        .await?
        .into_iter()
        .flatten()
        .map(|c| (c.conversation_id.clone(), c))
        .collect();
    let next_after = if page.more {
        page.conversation_ids.last().cloned().unwrap_or_default()
    } else {
        String::new()
    };
    let conversations = page
        .conversation_ids
        .iter()
        .filter_map(|id| found.remove(id))
        .collect();
    Ok(server_frame::Body::Conversations(ConversationsResponse {
        conversations,
        next_after,
    }))
}

async fn heads(
    context: &Context,
    user: &User,
    shard: u32,
    ids: Vec<String>,
) -> Result<Vec<Conversation>, Error> {
    let body = request::Body::Heads(Heads {
        app_id: user.app_id.to_string(),
        user_id: user.user_id.to_string(),
        conversation_ids: ids,
    });
    match ask(context, shard, body).await?.body {
        response::Body::Heads(heads) => Ok(heads.conversations),
        _ => Err(unexpected()),
    }
}
