//! Sees to it that users' lists have the conversations of what is pushed to them, so that a later login finds them.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;
use parlance_proto::store::v1::{TouchConversationCommand, UserConversation, UserList};
use tokio::sync::Semaphore;
use tokio::time::{Duration, timeout};

use super::relayed::Relayed;
use crate::shard::{Shard, ShardError};
use crate::store::key::ListKeys;
use crate::store::{StoreError, Table, decode};

/// What takes longer is not waited for: a read, with its turn, and then a write. Together shorter than
/// [`super::relay_receiver`] takes for all of a relay.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
const WRITE_TIMEOUT: Duration = Duration::from_secs(4);
/// Reads at once, for all shards of a node: a disk that does not answer takes no more threads than that.
pub(super) const READS_MAX: usize = 4;

/// Whether it is surely in its user's list already, with the current generation.
pub(super) fn is_touched(shard: &Shard, term: u64, item: &Relayed) -> bool {
    let touched = shard.touched();
    item.conversation_id.is_empty()
        || touched.has(&touched.mark(term, &item.topic, &item.conversation_id))
}

/// The row of its user's list that it has to be in.
pub(super) fn row_of(item: &Relayed) -> Vec<u8> {
    keys_of(item).entry(&item.conversation_id)
}

fn keys_of(item: &Relayed) -> ListKeys {
    let (app, user) = &item.topic;
    ListKeys::new(item.slot, app, user)
}

/// The lists of all home shards of this node.
pub(super) struct Lists {
    reads: Arc<Semaphore>,
}

impl Lists {
    pub(super) fn new() -> Self {
        Self {
            reads: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    /// Marks the conversations as touched in their users' lists, once a generation. Answers the rows that were found touched, or
    /// are now; the others were known as touched, or cannot be written at the moment.
    ///
    /// # Errors
    /// The shard can push nothing: it leads no more, or does not own a user's slot.
    pub(super) async fn touch(
        &self,
        shard: &Shard,
        term: u64,
        items: Vec<&Relayed>,
    ) -> Result<HashSet<Vec<u8>>, ShardError> {
        let touched = shard.touched();
        let (mut seen, mut unknown) = (HashSet::new(), Vec::new());
        let (mut rows, mut lists) = (Vec::new(), Vec::new());
        for item in items {
            let row = row_of(item);
            if is_touched(shard, term, item) || !seen.insert(row.clone()) {
                continue;
            }
            rows.push(row.clone());
            lists.push(keys_of(item).list());
            let (app, user) = &item.topic;
            let command = TouchConversationCommand {
                app_id: app.into(),
                user_id: user.into(),
                conversation_id: item.conversation_id.clone(),
            };
            let mark = touched.mark(term, &item.topic, &item.conversation_id);
            unknown.push((row, mark, command));
        }
        let Some(found) = self.touched_in(shard, rows, lists).await? else {
            return Ok(HashSet::new());
        };
        let touches = unknown.into_iter().zip(found);
        let touches = touches.map(|((row, mark, command), found)| async move {
            let generation = match found {
                Some(generation) => Ok(generation),
                None => write(shard, command).await,
            };
            generation.map(|generation| {
                touched.remember(&mark, generation);
                row
            })
        });
        let (mut written, mut unwritten) = (HashSet::new(), Vec::new());
        for touch in join_all(touches).await {
            match touch {
                Ok(row) => drop(written.insert(row)),
                Err(error) if is_of_all(&error) => return Err(error),
                Err(error) => unwritten.push(error),
            }
        }
        note(shard, &unwritten);
        Ok(written)
    }

    /// The current generation of each list, if its entry is touched in it. None if the disk does not say. Reads beside the tasks.
    async fn touched_in(
        &self,
        shard: &Shard,
        rows: Vec<Vec<u8>>,
        lists: Vec<Vec<u8>>,
    ) -> Result<Option<Vec<Option<u64>>>, ShardError> {
        if rows.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let (store, reads) = (shard.store().clone(), self.reads.clone());
        let read = async {
            let permit = reads.acquire_owned().await;
            let permit = permit.map_err(|_| ShardError::Stopped)?;
            let read = tokio::task::spawn_blocking(move || {
                let _permit = permit; // until the disk has answered, whoever still waits for it
                // The lists last: what was touched in a generation that is still the current one then is touched.
                let rows = store.get_many(Table::Users, &rows)?;
                let lists = store.get_many(Table::Users, &lists)?;
                let pairs = rows.into_iter().zip(lists);
                let found = pairs.map(|pair| match pair {
                    (Some(entry), Some(list)) => {
                        let entry: UserConversation = decode("entry of a list", &entry)?;
                        let list: UserList = decode("list", &list)?;
                        Ok((entry.generation == list.generation).then_some(list.generation))
                    }
                    _ => Ok(None),
                });
                found.collect::<Result<Vec<_>, StoreError>>()
            });
            Ok(read.await.map_err(|_| ShardError::Stopped)??)
        };
        match timeout(READ_TIMEOUT, read).await {
            Ok(Ok(found)) => Ok(Some(found)),
            // The next leader has the rows whole.
            Ok(Err(ShardError::Store(error))) if shard.raft().report(&error) => {
                Err(ShardError::NotLeader(None))
            }
            Ok(Err(ShardError::Store(_))) => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                tracing::debug!(shard = %shard.id(), "pushes wait until lists can be read");
                Ok(None)
            }
        }
    }
}

async fn write(shard: &Shard, command: TouchConversationCommand) -> Result<u64, ShardError> {
    let written = timeout(WRITE_TIMEOUT, shard.run(command)).await;
    written.unwrap_or(Err(ShardError::OutcomeUnknown))
}

/// Another shard, or another leader, has to take all of the relay. Anything else is one entry's trouble.
fn is_of_all(error: &ShardError) -> bool {
    matches!(
        error,
        ShardError::NotLeader(_) | ShardError::Moved(_) | ShardError::Stopped
    )
}

/// Entries could not be written.
fn note(shard: &Shard, errors: &[ShardError]) {
    let is_for_the_moment = |error: &&ShardError| {
        matches!(
            error,
            ShardError::DiskFull { .. }
                | ShardError::Overloaded { .. }
                | ShardError::OutcomeUnknown
        )
    };
    let (shard, entries) = (shard.id(), errors.len());
    if let Some(error) = errors.iter().find(|error| !is_for_the_moment(error)) {
        tracing::warn!(%shard, entries, %error, "lists are not written, and pushes wait for them");
    } else if let Some(error) = errors.first() {
        tracing::debug!(%shard, entries, %error, "pushes wait until lists are written");
    }
}
