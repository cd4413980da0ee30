//! A shard's rows in the state store, and where they are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_proto::ids::ShardId;
use parlance_proto::store::v1::AppliedState;
use tokio::sync::watch;
use tokio::time::Instant;

use super::metrics;
use crate::store::{RowRange, StateStore, StoreError, StoreView, Table, WriteBatch, decode, key};

/// Rows that have failed to be read for so long, now and again, cannot be read: another replica is to answer.
const UNREADABLE_AFTER: Duration = Duration::from_secs(2);
/// A disk that has failed nobody for so long was in trouble for a moment.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
const DAMAGED: &str = "keep the data directory for inspection and bring in a new member in this node's place: parlance \
                       node replace";
const UNREADABLE: &str = "look at the disk, then start the node again; if the disk is lost bring in a new member in \
                          this node's place: parlance node replace";

/// The rows of one shard. What is read from a view, and where it says the rows are, belongs together.
pub(super) struct ShardRows {
    pub(super) shard: ShardId,
    pub(super) store: Arc<dyn StateStore>,
    /// Locked while rows are written, so that no view comes between the rows and the ranges.
    ranges: Mutex<Arc<[RowRange]>>,
    failures: Mutex<Failures>,
    /// What is wrong with the rows, once something is.
    damage: watch::Sender<Option<String>>,
}

/// When the disk did not give rows back.
#[derive(Debug, Default)]
struct Failures {
    /// The first that is not forgiven, and the newest.
    known: Option<(Instant, Instant)>,
}

impl Failures {
    /// One more. Answers whether they have lasted too long.
    fn another(&mut self, now: Instant) -> bool {
        let lately = |(_, newest): &(Instant, Instant)| now - *newest < FORGIVEN_AFTER;
        let first = self.known.filter(lately).map_or(now, |(first, _)| first);
        self.known = Some((first, now));
        now - first >= UNREADABLE_AFTER
    }
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
            failures: Mutex::default(),
            damage: watch::Sender::default(),
        })
    }

    /// Somebody met this error when reading the rows. Answers whether the replica stops over it, since others have the
    /// rows whole: they are damaged, or could not be read for a while.
    pub(super) fn report(&self, error: &StoreError) -> bool {
        if !error.is_failure() {
            return self.report_damage(error);
        }
        metrics::disk_failure();
        let lasts = self.failures.lock().another(Instant::now());
        if lasts {
            self.give_up(error, UNREADABLE);
        } else {
            tracing::warn!(shard = %self.shard, %error, "rows cannot be read: whoever wants them may ask again");
        }
        lasts
    }

    /// The same of somebody who cannot ask again.
    pub(super) fn report_at_once(&self, error: &StoreError) {
        if error.is_failure() {
            metrics::disk_failure();
            self.give_up(error, UNREADABLE);
        } else {
            self.report_damage(error);
        }
    }

    /// Somebody met this error with the rows. Answers whether they are damaged: then the replica stops.
    pub(super) fn report_damage(&self, error: &StoreError) -> bool {
        let is_damage = error.is_damage();
        if is_damage {
            self.give_up(error, DAMAGED);
        }
        is_damage
    }

    fn give_up(&self, error: &StoreError, advice: &str) {
        self.damage.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert_with(|| format!("{error}: {advice}"));
            first
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moments_trouble_is_forgiven_and_one_that_lasts_is_not() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!failures.another(at(0)) && !failures.another(at(1)));
        assert!(failures.another(at(3)), "for three seconds");
        assert!(!failures.another(at(100)) && !failures.another(at(101)));
        assert!(failures.another(at(150)), "again and again");
    }
}
