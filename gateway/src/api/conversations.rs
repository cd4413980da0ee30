//! The caller's conversations: the list, and how far each is read.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::future::join_all;
use parlance_proto::client::v1::Conversation;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{ConversationId, ShardId};
use parlance_proto::limits::CONVERSATIONS_PAGE_MAX;
use parlance_proto::link::v1::{Heads, HeadsResult, ListConversations, MarkRead, MarkReadResult};
use tokio::time::{Instant, timeout};

use super::{Api, slot_of};
use crate::cluster::{Backoff, Failure, Place};
use crate::session::Caller;

/// Shards may be split while their heads are asked for: the next round waits for news of the cluster, or so long.
const PAUSE_LEAST: Duration = Duration::from_millis(5);
const PAUSE_MOST: Duration = Duration::from_millis(200);

/// A page of the list.
#[derive(Debug)]
pub struct Page {
    /// Ordered by id.
    pub conversations: Vec<Conversation>,
    /// Where the next page begins; empty if this was the last.
    pub next_after: String,
}

/// The conversations behind the id `after`: ids from the user's home shard, heads from the conversations' shards, merged
/// in the order of the ids. A `limit` of 0 means the most.
pub async fn list(api: &Api, caller: &Caller, after: String, limit: u32) -> Result<Page, Error> {
    let limit = match limit {
        0 => CONVERSATIONS_PAGE_MAX,
        limit => limit.min(CONVERSATIONS_PAGE_MAX),
    };
    let ask = ListConversations {
        app_id: (&caller.user.app).into(),
        user_id: (&caller.user.id).into(),
        after,
        limit,
    };
    let page = api.ask(caller.user.home(), &ask).await?;
    let ids = page.conversation_ids;
    let mut found = heads(api, caller, &ids).await?;
    let next_after = match ids.last() {
        Some(last) if page.more => last.clone(),
        _ => String::new(),
    };
    let conversations = ids.iter().filter_map(|id| found.remove(id)).collect();
    Ok(Page {
        conversations,
        next_after,
    })
}

/// Moves the caller's read cursor; it never moves back.
pub async fn mark_read(
    api: &Api,
    caller: &Caller,
    conversation: &ConversationId,
    seq: u64,
) -> Result<MarkReadResult, Error> {
    let ask = MarkRead {
        app_id: (&caller.user.app).into(),
        conversation_id: conversation.into(),
        user_id: (&caller.user.id).into(),
        seq,
    };
    api.ask(slot_of(caller, conversation), &ask).await
}

/// The heads of these conversations, each shard asked once for all of its.
async fn heads(
    api: &Api,
    caller: &Caller,
    ids: &[String],
) -> Result<HashMap<String, Conversation>, Error> {
    let mut missing: Vec<ConversationId> = ids
        .iter()
        .filter_map(|id| ConversationId::parse(id).ok())
        .collect();
    let deadline = Instant::now() + api.limits.request_timeout();
    let mut found = HashMap::new();
    let mut topology = api.router.topology();
    let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
    while Instant::now() < deadline {
        topology.mark_unchanged();
        let asked = by_shard(api, caller, &missing)?.into_iter();
        let asked = asked.map(|(shard, ids)| heads_of(api, caller, shard, ids, deadline));
        missing = Vec::new();
        for (ids, answer) in join_all(asked).await {
            match answer {
                Ok(heads) => found.extend(
                    heads
                        .conversations
                        .into_iter()
                        .map(|c| (c.conversation_id.clone(), c)),
                ),
                Err(failure) if failure.moved => missing.extend(ids),
                Err(failure) => return Err(failure.error),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let _ = timeout(backoff.pause(), topology.changed()).await;
    }
    Err(unavailable())
}

fn by_shard(
    api: &Api,
    caller: &Caller,
    ids: &[ConversationId],
) -> Result<BTreeMap<ShardId, Vec<ConversationId>>, Error> {
    let mut by_shard: BTreeMap<ShardId, Vec<ConversationId>> = BTreeMap::new();
    api.router.with_topology(|topology| {
        for id in ids {
            let shard = topology
                .shard_of(slot_of(caller, id))
                .ok_or_else(unavailable)?;
            by_shard.entry(shard).or_default().push(id.clone());
        }
        Ok(by_shard)
    })
}

async fn heads_of(
    api: &Api,
    caller: &Caller,
    shard: ShardId,
    ids: Vec<ConversationId>,
    deadline: Instant,
) -> (Vec<ConversationId>, Result<HeadsResult, Failure>) {
    let ask = Heads {
        app_id: (&caller.user.app).into(),
        user_id: (&caller.user.id).into(),
        conversation_ids: ids.iter().map(Into::into).collect(),
    };
    let answered = api.router.call(Place::Shard(shard), &ask, deadline).await;
    (ids, answered.map(|answered| answered.answer))
}

fn unavailable() -> Error {
    Error::new(
        ErrorCode::Unavailable,
        "the shards of the conversations are not known",
    )
}
