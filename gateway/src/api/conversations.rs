//! The caller's conversations: the list, and how far each is read.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::future::join_all;
use parlance_proto::client::v1::{Conversation, ConversationKind};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{ConversationId, ShardId};
use parlance_proto::limits::{ANSWER_BYTES_MAX, CONVERSATIONS_PAGE_MAX};
use parlance_proto::link::v1::{Heads, HeadsResult, ListConversations, MarkRead, MarkReadResult};
use prost::Message as _;
use tokio::time::{Instant, timeout};

use super::{Api, slot_of};
use crate::cluster::{Backoff, Failure, Place};
use crate::metrics::handles;
use crate::session::Caller;

/// What an answer has around each conversation, at most.
const FRAME_BYTES: usize = 8;
/// Shards may be split while their heads are asked for: the next round waits for news of the cluster, or so long.
const PAUSE_LEAST: Duration = Duration::from_millis(5);
const PAUSE_MOST: Duration = Duration::from_millis(200);
/// How long a list waits for the heads of its conversations: longer than a failover takes. One shard that has no majority
/// does not keep it back; its conversations come without their heads.
const HEADS_WITHIN: Duration = Duration::from_secs(4);

/// A page of the list.
#[derive(Debug)]
pub struct Page {
    /// Ordered by id.
    pub conversations: Vec<Conversation>,
    /// Where the next page begins; empty if this was the last.
    pub next_after: String,
}

/// Which part of the list.
#[derive(Debug)]
pub struct Wanted {
    /// The last id of the page before; empty for the first page.
    pub after: String,
    /// Conversations; 0 means the most.
    pub limit: u32,
    /// Bytes of conversations; 0 means the most that an answer may have.
    pub max_bytes: u32,
}

/// The conversations behind the id `after`: ids from the user's home shard, heads from the conversations' shards, merged
/// in the order of the ids.
pub async fn list(api: &Api, caller: &Caller, wanted: Wanted) -> Result<Page, Error> {
    let limit = match wanted.limit {
        0 => CONVERSATIONS_PAGE_MAX,
        limit => limit.min(CONVERSATIONS_PAGE_MAX),
    };
    let max_bytes = match wanted.max_bytes as usize {
        0 => ANSWER_BYTES_MAX,
        wanted => wanted.min(ANSWER_BYTES_MAX),
    };
    let ask = ListConversations {
        app_id: (&caller.user.app).into(),
        user_id: (&caller.user.id).into(),
        after: wanted.after,
        limit,
    };
    let page = api.ask(caller.user.home(), &ask).await?;
    let ids = page.conversation_ids;
    let mut found = heads(api, caller, &ids).await?;
    let mut listed = Page {
        conversations: Vec::new(),
        next_after: String::new(),
    };
    let (mut bytes, mut more) = (0, page.more);
    for id in ids {
        let known = found.remove(&id).or_else(|| without_head(caller, &id));
        if let Some(conversation) = known {
            bytes += conversation.encoded_len() + FRAME_BYTES;
            if bytes > max_bytes && !listed.conversations.is_empty() {
                more = true;
                break;
            }
            listed.conversations.push(conversation);
        }
        listed.next_after = id;
    }
    if !more {
        listed.next_after = String::new();
    }
    Ok(listed)
}

/// A conversation whose shard did not answer.
fn without_head(caller: &Caller, id: &str) -> Option<Conversation> {
    let id = ConversationId::parse(id).ok()?;
    let (kind, peer) = match &id {
        ConversationId::Direct(users) => (
            ConversationKind::Direct,
            users.peer_of(&caller.user.id).map(Into::into),
        ),
        _ => (ConversationKind::Unspecified, None),
    };
    Some(Conversation {
        conversation_id: (&id).into(),
        kind: kind.into(),
        peer: peer.unwrap_or_default(),
        head_unknown: true,
        ..Conversation::default()
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

/// The heads of these conversations, each shard asked once for all of its; those of shards that do not answer in time
/// are missing.
async fn heads(
    api: &Api,
    caller: &Caller,
    ids: &[String],
) -> Result<HashMap<String, Conversation>, Error> {
    let mut missing: Vec<ConversationId> = ids
        .iter()
        .filter_map(|id| ConversationId::parse(id).ok())
        .collect();
    let deadline = Instant::now() + api.limits.request_timeout().min(HEADS_WITHIN);
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
                Err(failure) if failure.error.is_retryable() => {
                    handles().heads_unknown.increment(ids.len() as u64)
                }
                Err(failure) => return Err(failure.error),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let _ = timeout(backoff.pause(), topology.changed()).await;
    }
    handles().heads_unknown.increment(missing.len() as u64);
    Ok(found)
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
