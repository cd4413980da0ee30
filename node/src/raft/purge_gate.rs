//! The log may only forget what the state store has on disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Flushes the state store, and remembers what was flushed.
pub struct FlushState {
    group: Group,
    store: Arc<dyn StateStore>,
    durable: Arc<AtomicU64>,
}

impl FlushState {
    /// Nothing is known to be flushed yet.
    pub fn new(group: Group, store: Arc<dyn StateStore>) -> Self {
        Self {
            group,
            store,
            durable: Arc::default(),
        }
    }
}

/// A group's applied log id and members, as the store has them.
pub(super) fn applied_state(
    store: &dyn StateStore,
    group: Group,
) -> Result<AppliedState, StoreError> {
    let Some(row) = store.get(Table::Meta, &key::applied_key(group))? else {
        return Ok(AppliedState::default());
    };
    AppliedState::decode(row).map_err(|e| StoreError::Damaged {
        what: format!("applied row of group {group}"),
        reason: e.to_string(),
    })
}

impl PurgeGate for FlushState {
    fn make_durable(&self, index: u64) -> BoxFuture<'_, io::Result<()>> {
        let (group, store, durable) = (self.group, self.store.clone(), self.durable.clone());
        let flush = move || -> io::Result<()> {
            let applied = applied_state(&*store, group)
                .map_err(io::Error::other)?
                .applied;
            store.flush().map_err(io::Error::other)?;
            match applied {
                Some(applied) if applied.index >= index => {
                    durable.fetch_max(applied.index, Ordering::Relaxed);
                    Ok(())
                }
                _ => Err(io::Error::other(format!(
                    "purge of group {group} up to {index}, which is not applied"
                ))),
            }
        };
        Box::pin(async move {
            if self.durable.load(Ordering::Relaxed) >= index && index > 0 {
                return Ok(());
            }
            tokio::task::spawn_blocking(flush)
                .await
                .map_err(io::Error::other)?
        })
    }
}
