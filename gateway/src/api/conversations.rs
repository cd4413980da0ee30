//! The caller's conversations: the list, and how far each is read.

use parlance_proto::client::v1::Conversation;
use parlance_proto::common::v1::Error;
use parlance_proto::ids::ConversationId;
use parlance_proto::limits::{ANSWER_BYTES_MAX, CONVERSATIONS_PAGE_MAX, PREVIEW_BYTES_MAX};
use parlance_proto::link::v1::{ListConversations, ListedConversation, MarkRead, MarkReadResult};
use prost::Message as _;
use tokio::time::Instant;

use super::heads::Heads;
use super::{Api, slot_of};
use crate::session::Caller;

/// What an answer has around each conversation, at most.
const FRAME_BYTES: usize = 8;
/// What a conversation has in an answer, at most: its last event's content, and ids.
const CONVERSATION_BYTES_MAX: usize = PREVIEW_BYTES_MAX + 1024;

/// A page of the list.
#[derive(Debug, Default)]
pub struct Page {
    /// In the order of their places.
    pub conversations: Vec<Conversation>,
    /// Where the next page begins; empty if this was the last.
    pub next_after: String,
    /// Where the next list may begin, if that was asked for.
    pub cursor: String,
    /// The list is of what changed since the cursor given.
    pub changes_only: bool,
}

/// Which part of the list.
#[derive(Debug)]
pub struct Wanted {
    /// `next_after` of the page before; empty for the first page.
    pub after: String,
    /// Conversations; 0 means the most.
    pub limit: u32,
    /// Bytes of conversations; 0 means the most that an answer may have.
    pub max_bytes: u32,
    /// A cursor is wanted; if this is one, only what changed since then.
    pub since: Option<String>,
}

/// The conversations behind the place `after`: ids from the user's home shard, heads from the conversations' shards.
pub async fn list(api: &Api, caller: &Caller, wanted: Wanted) -> Result<Page, Error> {
    let limit = match wanted.limit {
        0 => CONVERSATIONS_PAGE_MAX,
        limit => limit.min(CONVERSATIONS_PAGE_MAX),
    };
    let ask = ListConversations {
        app_id: (&caller.user.app).into(),
        user_id: (&caller.user.id).into(),
        after: wanted.after,
        limit,
        since: wanted.since,
    };
    let deadline = Instant::now() + api.limits.request_timeout();
    let home = caller.user.home();
    let listed = api.ask_until(home, &ask, deadline).await?;
    let page = Page {
        cursor: listed.cursor,
        changes_only: listed.changes_only,
        ..Page::default()
    };
    let heads = Heads::new(api, caller, deadline);
    fill(
        heads,
        page,
        listed.conversations,
        listed.more,
        wanted.max_bytes,
    )
    .await
}

/// These conversations, as many of them as an answer may have.
pub async fn some(
    api: &Api,
    caller: &Caller,
    ids: Vec<String>,
    max_bytes: u32,
) -> Result<Page, Error> {
    let field = "conversations.conversation_ids";
    if ids.len() > CONVERSATIONS_PAGE_MAX as usize {
        let text = format!("{} ids, {CONVERSATIONS_PAGE_MAX} are allowed", ids.len());
        return Err(Error::invalid(field, text));
    }
    for id in &ids {
        ConversationId::parse(id).map_err(|e| Error::invalid(field, e.to_string()))?;
    }
    let entries = ids.into_iter().map(|id| ListedConversation {
        place: id.clone(),
        conversation_id: id,
    });
    let deadline = Instant::now() + api.limits.request_timeout();
    let heads = Heads::new(api, caller, deadline);
    fill(heads, Page::default(), entries.collect(), false, max_bytes).await
}

/// Asks for the heads of as many as will fit, first of those that fit in any case, then by the size of what came. When the time
/// for it is over the page ends with what is there.
async fn fill(
    mut heads: Heads<'_>,
    mut page: Page,
    entries: Vec<ListedConversation>,
    more: bool,
    max_bytes: u32,
) -> Result<Page, Error> {
    let max_bytes = match max_bytes as usize {
        0 => ANSWER_BYTES_MAX,
        wanted => wanted.min(ANSWER_BYTES_MAX),
    };
    let (mut bytes, mut place) = (0usize, String::new());
    let mut left = entries.as_slice();
    'full: while !left.is_empty() {
        let each = bytes.checked_div(page.conversations.len());
        let each = each.unwrap_or(CONVERSATION_BYTES_MAX).max(1);
        let fit = max_bytes.saturating_sub(bytes) / each;
        if (fit == 0 || heads.too_late()) && !page.conversations.is_empty() {
            break;
        }
        let fit = fit.clamp(1, left.len());
        let (step, behind) = left.split_at(fit);
        let mut found = heads
            .of(step.iter().map(|entry| &*entry.conversation_id))
            .await?;
        for entry in step {
            if let Some(conversation) = found.remove(&entry.conversation_id) {
                let size = conversation.encoded_len() + FRAME_BYTES;
                if bytes + size > max_bytes && !page.conversations.is_empty() {
                    break 'full;
                }
                bytes += size;
                page.conversations.push(conversation);
            }
            place.clone_from(&entry.place);
        }
        left = behind;
    }
    let ended = entries.last().is_none_or(|last| last.place == place);
    if more || !ended {
        page.next_after = place;
    }
    Ok(page)
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
