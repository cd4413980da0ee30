//! A shard's rows in the state store, and where they are.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_proto::ids::ShardId;
use parlance_proto::store::v1::AppliedState;

use crate::store::{RowRange, StateStore, StoreError, StoreView, Table, WriteBatch, decode, key};

/// The rows of one shard. What is read from a view, and where it says the rows are, belongs together.
pub(super) struct ShardRows {
    pub(super) shard: ShardId,
    pub(super) store: Arc<dyn StateStore>,
    /// Locked while rows are written, so that no view comes between the rows and the ranges.
    ranges: Mutex<Arc<[RowRange]>>,
}

/// Reads a consistent view of a shard: its applied state, where its rows are, and the rows.
pub type ReadRows<'a> =
    dyn FnMut(AppliedState, &[RowRange], &dyn StoreView) -> Result<(), StoreError> + 'a;

impl ShardRows {
    pub(super) fn new(
        shard: ShardId,
        store: Arc<dyn StateStore>,
        ranges: Arc<[RowRange]>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shard,
            store,
            ranges: Mutex::new(ranges),
        })
    }

    /// Writes a batch, after which the rows are in `ranges`.
    pub(super) fn write(
        &self,
        batch: &WriteBatch,
        ranges: Arc<[RowRange]>,
    ) -> Result<(), StoreError> {
        let mut current = self.ranges.lock();
        self.store.write(batch)?;
        *current = ranges;
        Ok(())
    }

    /// The rows were replaced.
    pub(super) fn moved(&self, ranges: Arc<[RowRange]>) {
        *self.ranges.lock() = ranges;
    }

    pub(super) fn applied(&self) -> Result<AppliedState, StoreError> {
        let row = self.store.get(Table::Meta, &key::applied(self.shard))?;
        decode_applied(self.shard, row)
    }

    /// Blocks until `read` is done.
    pub(super) fn view(&self, read: &mut ReadRows<'_>) -> Result<(), StoreError> {
        let mut locked = Some(self.ranges.lock());
        self.store.view(&mut |view| {
            // The view is taken: writes may go on.
            let ranges = locked.take().map(|ranges| ranges.clone());
            let row = view.get(Table::Meta, &key::applied(self.shard))?;
            read(
                decode_applied(self.shard, row)?,
                &ranges.unwrap_or_default(),
                view,
            )
        })
    }
}

/// A shard's applied log id and members, from their row.
pub(super) fn decode_applied(
    shard: ShardId,
    row: Option<Bytes>,
) -> Result<AppliedState, StoreError> {
    decode(
        &format!("applied row of shard {shard}"),
        &row.unwrap_or_default(),
    )
}
