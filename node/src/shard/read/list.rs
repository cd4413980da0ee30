//! A user's list of conversations: all of them, or those that were touched since a cursor.

use std::sync::Arc;

use parlance_proto::ids::{AppId, UserId};
use parlance_proto::limits::CONVERSATIONS_PAGE_MAX;
use parlance_proto::link::v1::{ListConversationsResult, ListedConversation};
use parlance_proto::slot::Slot;
use parlance_proto::store::v1::{CloseGenerationCommand, UserList};
use tokio::time::{Duration, timeout};

use super::StoreRows;
use crate::link::Turn;
use crate::shard::{Shard, ShardError};
use crate::store::key::ListKeys;
use crate::store::{Order, StateStore, StoreError, Table};

/// How long a list waits until its generation is closed. A shard whose disk is slow or full lists all the same: what is touched
/// already is then told once more.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// Which part of a list.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// The place of the last one of the page before; empty for the first page.
    pub after: String,
    /// Conversations wanted.
    pub limit: u32,
    /// A cursor is wanted; if this is one, only what was touched since.
    pub since: Option<String>,
}

/// What is touched from here on has this generation, or a later one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cursor {
    began_ms: i64,
    generation: u64,
}

impl Shard {
    /// A page of a user's conversations; this is the user's home shard.
    pub async fn list_conversations(
        self: Arc<Self>,
        turn: Turn,
        app: AppId,
        user: UserId,
        page: ListPage,
    ) -> Result<ListConversationsResult, ShardError> {
        let topic = (app, user);
        let term = self.raft.term();
        if page.after.is_empty() && page.since.is_some() {
            self.clone().close_generation(&turn, &topic).await?;
        }
        let (this, slot) = (self.clone(), Slot::of_user(&topic.0, &topic.1));
        let read = self.read(&turn, move |shard| {
            let keys = shard.list_keys(&topic)?;
            Ok(page_of_list(&*shard.store, &keys, &page, |generation| {
                shard.touched().tell(&topic, generation);
            })?)
        });
        let listed = read.await?;
        // A cursor has to be told where relays touch lists. Who leads no longer has told nobody, and what is touched there in
        // the generation before would be missing behind the cursor.
        if !listed.cursor.is_empty() {
            this.owned(slot)?;
            if this.raft.term() != term || !this.is_led_here() {
                return Err(ShardError::NotLeader(None));
            }
        }
        Ok(listed)
    }

    /// What was touched up to now is told once.
    async fn close_generation(
        self: Arc<Self>,
        turn: &Turn,
        (app, user): &(AppId, UserId),
    ) -> Result<(), ShardError> {
        let topic = (app.clone(), user.clone());
        let read = self.clone().read(turn, move |shard| {
            let keys = shard.list_keys(&topic)?;
            Ok(touched_generation(&*shard.store, &keys)?)
        });
        if let Some(generation) = read.await? {
            let command = CloseGenerationCommand {
                app_id: app.into(),
                user_id: user.into(),
                generation,
            };
            // Whether it worked is seen by what is read next.
            let _ = timeout(CLOSE_WITHIN, self.run(command)).await;
        }
        Ok(())
    }

    fn list_keys(&self, (app, user): &(AppId, UserId)) -> Result<ListKeys, ShardError> {
        let slot = self.owned(Slot::of_user(app, user))?;
        Ok(ListKeys::new(slot, app, user))
    }
}

/// The current generation, if anything was touched in it.
fn touched_generation(store: &dyn StateStore, keys: &ListKeys) -> Result<Option<u64>, StoreError> {
    let Some(UserList { generation, .. }) = StoreRows(store).row(Table::Users, &keys.list())?
    else {
        return Ok(None);
    };
    let (mut touched, (from, to)) = (None, keys.touches_behind(generation, ""));
    store.scan(Table::Users, &from, &to, Order::Ascending, &mut |_, _| {
        touched = Some(generation);
        false
    })?;
    Ok(touched)
}

/// `tell` hears which generation is about to be told as a cursor, before rows are looked at.
fn page_of_list(
    store: &dyn StateStore,
    keys: &ListKeys,
    page: &ListPage,
    tell: impl FnOnce(u64),
) -> Result<ListConversationsResult, StoreError> {
    let mut listed = ListConversationsResult::default();
    let mut from = touch_of(&page.after);
    if let Some(since) = page.since.as_ref().filter(|_| page.after.is_empty()) {
        let list: Option<UserList> = StoreRows(store).row(Table::Users, &keys.list())?;
        if let Some(now) = list.map(Cursor::from) {
            tell(now.generation);
            listed.cursor = now.text();
            from = Cursor::parse(since)
                .filter(|since| {
                    since.began_ms == now.began_ms && since.generation <= now.generation
                })
                .map(|since| (since.generation, ""));
        }
    }
    listed.changes_only = from.is_some();
    let (from, to) = match from {
        Some((generation, conversation)) => keys.touches_behind(generation, conversation),
        None => keys.behind(&page.after),
    };
    let limit = page.limit.clamp(1, CONVERSATIONS_PAGE_MAX) as usize;
    store.scan(Table::Users, &from, &to, Order::Ascending, &mut |key, _| {
        if listed.conversations.len() == limit {
            listed.more = true;
            return false;
        }
        let entry = if listed.changes_only {
            keys.touched(key)
                .map(|(generation, id)| (id, format!("{generation} {id}")))
        } else {
            keys.conversation(key).map(|id| (id, id.to_owned()))
        };
        let entry = entry.map(|(id, place)| ListedConversation {
            conversation_id: id.to_owned(),
            place,
        });
        listed.conversations.extend(entry);
        true
    })?;
    Ok(listed)
}

/// The generation and the conversation that a place among touches says; no conversation's id begins with a number.
fn touch_of(place: &str) -> Option<(u64, &str)> {
    let (generation, conversation) = place.split_once(' ')?;
    Some((generation.parse().ok()?, conversation))
}

impl From<UserList> for Cursor {
    fn from(list: UserList) -> Self {
        Self {
            began_ms: list.began_ms,
            generation: list.generation,
        }
    }
}

impl Cursor {
    fn text(self) -> String {
        format!("{}.{}", self.began_ms, self.generation)
    }

    fn parse(text: &str) -> Option<Self> {
        let (began_ms, generation) = text.split_once('.')?;
        Some(Self {
            began_ms: began_ms.parse().ok()?,
            generation: generation.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests;
