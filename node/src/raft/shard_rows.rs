//! A shard's rows in the state store, and where they are.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_proto::ids::ShardId;
use parlance_proto::store::v1::AppliedState;
use tokio::sync::watch;

use crate::store::{RowRange, StateStore, StoreError, StoreView, Table, WriteBatch, decode, key};

/// The rows of one shard. What is read from a view, and where it says the rows are, belongs together.
pub(super) struct ShardRows {
    pub(super) shard: ShardId,
    pub(super) store: Arc<dyn StateStore>,
    /// Locked while rows are written, so that no view comes between the rows and the ranges.
    ranges: Mutex<Arc<[RowRange]>>,
    /// What is wrong with the rows, once something is.
    damage: watch::Sender<Option<String>>,
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
            damage: watch::Sender::default(),
        })
    }

    /// Somebody met this error with the rows. Answers whether they are damaged: then the replica stops, since others have
    /// them whole.
    pub(super) fn report(&self, error: &StoreError) -> bool {
        if !error.is_damage() {
            return false;
        }
        self.damage.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert_with(|| {
                format!(
                    "{error}: keep the data directory for inspection and bring in a new member in this node's place: \
                     parlance node replace"
                )
            });
            first
        });
        true
    }

    /// What is wrong with the rows, if anything is known.
    pub(super) fn damage(&self) -> Option<String> {
        self.damage.borrow().clone()
    }

    /// Returns once something is.
    pub(super) async fn damaged(&self) {
        let _ = self.damage.subscribe().wait_for(Option::is_some).await; // the sender is here
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

    /// As [`ShardRows::write`], unless the store would wait for its disk: then nothing is written, and the answer is false.
    pub(super) fn try_write(
        &self,
        batch: &WriteBatch,
        ranges: &Arc<[RowRange]>,
    ) -> Result<bool, StoreError> {
        let Some(mut current) = self.ranges.try_lock() else {
            return Ok(false);
        };
        let written = self.store.try_write(batch)?;
        if written {
            *current = ranges.clone();
        }
        Ok(written)
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
