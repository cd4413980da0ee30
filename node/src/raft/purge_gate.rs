//! The log may only forget what the state store has on disk.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use parlance_proto::ids::ShardId;

use super::shard_rows::decode_applied;
use crate::store::{StateStore, StoreError, Table, key};

/// Asked before entries are purged.
pub trait PurgeGate: Send + Sync + 'static {
    /// Returns once the state up to `index` survives a power cut.
    fn make_durable(&self, index: u64) -> BoxFuture<'_, io::Result<()>>;
}

/// Flushes the state store, unless the rows are durable already.
pub struct FlushState {
    shard: ShardId,
    store: Arc<dyn StateStore>,
}

impl FlushState {
    /// For one shard.
    pub fn new(shard: ShardId, store: Arc<dyn StateStore>) -> Self {
        Self { shard, store }
    }
}

/// Whether the rows of a shard survive a power cut, up to the entry at `index`.
pub(super) fn is_durable(
    store: &dyn StateStore,
    shard: ShardId,
    index: u64,
) -> Result<bool, StoreError> {
    let row = store.get_durable(Table::Meta, &key::applied(shard))?;
    let applied = decode_applied(shard, row)?.applied;
    Ok(applied.is_some_and(|applied| applied.index >= index))
}

impl PurgeGate for FlushState {
    fn make_durable(&self, index: u64) -> BoxFuture<'_, io::Result<()>> {
        let (shard, store) = (self.shard, self.store.clone());
        // A snapshot has flushed the rows: usually there is nothing left to do.
        let flush = move || -> Result<bool, StoreError> {
            if is_durable(&*store, shard, index)? {
                return Ok(true);
            }
            store.flush()?;
            is_durable(&*store, shard, index)
        };
        Box::pin(async move {
            let durable = tokio::task::spawn_blocking(flush)
                .await
                .map_err(io::Error::other)?;
            if durable.map_err(io::Error::other)? {
                return Ok(());
            }
            Err(io::Error::other(format!(
                "purge of shard {shard} up to {index}, which is not applied"
            )))
        })
    }
}
