//! Reading: positions, history, heads and lists.

use std::sync::Arc;

use parlance_proto::link::v1::{
    Heads, History, ListConversations, MarkRead, MarkReadResult, response,
};
use parlance_proto::store::v1::MarkReadCommand;

use super::{Answer, Reply, app, check_ids, conversation, user};
use crate::link::Turn;
use crate::shard::{HistoryPage, ListPage, Shard};

pub(super) fn mark_read(shard: &Shard, ask: MarkRead, reply: Reply) {
    let reader = ("user_id", &*ask.user_id);
    if let Err(error) = check_ids(&ask.app_id, &ask.conversation_id, reader) {
        return reply.answer(Err(error));
    }
    let command = MarkReadCommand {
        app_id: ask.app_id,
        conversation_id: ask.conversation_id,
        user_id: ask.user_id,
        seq: ask.seq,
    };
    shard.submit(command, |position| {
        reply.answer(position.map(|position| {
            response::Body::MarkRead(MarkReadResult {
                read_seq: position.read_seq,
                unread_count: position.unread,
            })
        }));
    });
}

pub(super) async fn history(shard: Arc<Shard>, ask: History, turn: Turn) -> Answer {
    let page = HistoryPage {
        start_seq: ask.start_seq,
        limit: ask.limit,
        direction: ask.direction(),
        max_bytes: ask.max_bytes,
    };
    let conversation = conversation(&ask.conversation_id)?;
    let user = user("user_id", &ask.user_id)?;
    let history = shard.history(turn, app(&ask.app_id)?, conversation, user, page);
    history.await.map(response::Body::History)
}

pub(super) async fn heads(shard: Arc<Shard>, ask: Heads, turn: Turn) -> Answer {
    let ids = ask.conversation_ids.iter();
    let conversations = ids.map(|id| conversation(id)).collect::<Result<_, _>>()?;
    let user = user("user_id", &ask.user_id)?;
    let heads = shard.heads(turn, app(&ask.app_id)?, user, conversations);
    heads.await.map(response::Body::Heads)
}

pub(super) async fn list_conversations(
    shard: Arc<Shard>,
    ask: ListConversations,
    turn: Turn,
) -> Answer {
    let user = user("user_id", &ask.user_id)?;
    let page = ListPage {
        after: ask.after,
        limit: ask.limit,
        since: ask.since,
    };
    let list = shard.list_conversations(turn, app(&ask.app_id)?, user, page);
    list.await.map(response::Body::ListConversations)
}
