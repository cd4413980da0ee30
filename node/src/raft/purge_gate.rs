//! The log may only forget what the state store has on disk.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parlance_proto::shard::Group;
use parlance_proto::store::v1::AppliedState;
use prost::Message;

use crate::store::{StateStore, StoreError, Table, key};

/// Asked before entries are purged.
pub trait PurgeGate: Send + Sync + 'static {
    /// Returns once the state up to `index` survives a power cut.
    fn make_durable(&self, index: u64) -> BoxFuture<'_, io::Result<()>>;
}

/// Flushes the state store, unless the rows are durable already.
pub struct FlushState {
    group: Group,
    store: Arc<dyn StateStore>,
}

impl FlushState {
    /// For one group.
    pub fn new(group: Group, store: Arc<dyn StateStore>) -> Self {
        Self { group, store }
    }
}

/// A group's applied log id and members, as the store has them.
pub(super) fn applied_state(
    store: &dyn StateStore,
    group: Group,
) -> Result<AppliedState, StoreError> {
    decode(group, store.get(Table::Meta, &key::applied_key(group))?)
}

fn decode(group: Group, row: Option<Bytes>) -> Result<AppliedState, StoreError> {
    AppliedState::decode(row.unwrap_or_default()).map_err(|e| StoreError::Damaged {
        what: format!("applied row of group {group}"),
        reason: e.to_string(),
    })
}

fn is_durable(store: &dyn StateStore, group: Group, index: u64) -> Result<bool, StoreError> {
    let row = store.get_durable(Table::Meta, &key::applied_key(group))?;
    let applied = decode(group, row)?.applied;
    Ok(applied.is_some_and(|applied| applied.index >= index))
}

impl PurgeGate for FlushState {
    fn make_durable(&self, index: u64) -> BoxFuture<'_, io::Result<()>> {
        let (group, store) = (self.group, self.store.clone());
        // A built snapshot has flushed the rows: usually there is nothing left to do.
        let flush = move || -> Result<bool, StoreError> {
            if is_durable(&*store, group, index)? {
                return Ok(true);
            }
            store.flush()?;
            is_durable(&*store, group, index)
        };
        Box::pin(async move {
            let durable = tokio::task::spawn_blocking(flush)
                .await
                .map_err(io::Error::other)?;
            if durable.map_err(io::Error::other)? {
                return Ok(());
            }
            Err(io::Error::other(format!(
                "purge of group {group} up to {index}, which is not applied"
            )))
        })
    }
}
