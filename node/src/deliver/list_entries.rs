//! Sees to it that users' lists have the conversations of what is pushed to them, so that a later login finds them.

use std::collections::HashSet;

use futures::future::join_all;
use parlance_proto::store::v1::{TouchConversationCommand, UserConversation, UserList};
use tokio::time::{Duration, timeout};

use super::relayed::Relayed;
use crate::shard::{Shard, ShardError};
use crate::store::key::ListKeys;
use crate::store::{StoreError, Table, decode};

/// A write that takes longer is not waited for. Shorter than [`super::relay_receiver`] takes for all of a relay.
const WRITE_TIMEOUT: Duration = Duration::from_secs(4);

/// Whether it is surely in its user's list already, with the current generation.
pub(super) fn is_touched(shard: &Shard, term: u64, item: &Relayed) -> bool {
    let touched = shard.touched();
    item.conversation_id.is_empty()
        || touched.has(&touched.mark(term, &item.topic, &item.conversation_id))
}

/// Marks the conversations as touched in their users' lists, once a generation. Answers the entries, by the order of pushes,
/// that cannot be written at the moment.
pub(super) async fn touch(
    shard: &Shard,
    term: u64,
    items: &[Relayed],
) -> Result<HashSet<u64>, ShardError> {
    let touched = shard.touched();
    let (mut seen, mut unknown) = (HashSet::new(), Vec::new());
    let (mut entries, mut lists) = (Vec::new(), Vec::new());
    for item in items {
        let entry = shard.push_order().entry(&item.topic, &item.conversation_id);
        if is_touched(shard, term, item) || !seen.insert(entry) {
            continue;
        }
        let (app, user) = &item.topic;
        let keys = ListKeys::new(item.slot, app, user);
        entries.push(keys.entry(&item.conversation_id));
        lists.push(keys.list());
        let mark = touched.mark(term, &item.topic, &item.conversation_id);
        let command = TouchConversationCommand {
            app_id: app.into(),
            user_id: user.into(),
            conversation_id: item.conversation_id.clone(),
        };
        unknown.push((entry, mark, command));
    }
    let found = touched_in(shard, entries, lists).await?;
    let touches = unknown.into_iter().zip(found);
    let touches = touches.map(|((entry, mark, command), found)| async move {
        let generation = match found {
            Some(generation) => Ok(generation),
            None => write(shard, command).await,
        };
        match generation {
            Ok(generation) => {
                touched.remember(&mark, generation);
                Ok(None)
            }
            Err(error) if is_for_the_moment(&error) => Ok(Some((entry, error))),
            Err(error) => Err(error),
        }
    });
    let touches = join_all(touches).await.into_iter();
    let unwritten: Vec<_> = touches
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    if let Some((_, error)) = unwritten.first() {
        let (shard, entries) = (shard.id(), unwritten.len());
        tracing::debug!(%shard, entries, %error, "pushes wait until lists are written");
    }
    Ok(unwritten.into_iter().map(|(entry, _)| entry).collect())
}

async fn write(shard: &Shard, command: TouchConversationCommand) -> Result<u64, ShardError> {
    let written = timeout(WRITE_TIMEOUT, shard.run(command)).await;
    written.unwrap_or(Err(ShardError::OutcomeUnknown))
}

/// This shard may take it later, and can push other things meanwhile.
fn is_for_the_moment(error: &ShardError) -> bool {
    matches!(
        error,
        ShardError::DiskFull { .. } | ShardError::Overloaded { .. } | ShardError::OutcomeUnknown
    )
}

/// The current generation of each list, if its entry is touched in it. Reads the disk, so beside the tasks.
async fn touched_in(
    shard: &Shard,
    entries: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
) -> Result<Vec<Option<u64>>, ShardError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let store = shard.store().clone();
    let read = tokio::task::spawn_blocking(move || {
        // The lists last: what was touched in a generation that is still the current one then is touched.
        let entries = store.get_many(Table::Users, &entries)?;
        let lists = store.get_many(Table::Users, &lists)?;
        let pairs = entries.into_iter().zip(lists);
        let found = pairs.map(|pair| match pair {
            (Some(entry), Some(list)) => {
                let entry: UserConversation = decode("entry of a list", &entry)?;
                let list: UserList = decode("list", &list)?;
                Ok((entry.generation == list.generation).then_some(list.generation))
            }
            _ => Ok(None),
        });
        found.collect::<Result<_, StoreError>>()
    });
    Ok(read.await.map_err(|_| ShardError::Stopped)??)
}
