//! A send and its retries store one message: what was stored under a client message id is remembered for at least
//! a day.
//!
//! No wall clock can shorten that: a shard has a clock of its own, which goes on by what its leaders measured between their
//! batches. It may go slower than the world's (nobody counts the time between two leaders), and then more is remembered.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use parlance_proto::ids::UserId;
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::store::v1::{DedupRecord, NewMessage, ShardBatch, ShardState};
use xxhash_rust::xxh3::xxh3_64;

use super::batch::Batch;
use super::place::Place;
use super::rows::Rows;
use crate::store::{StateStore, StoreError, Table, decode, key};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// What one batch adds to the clock at most: what the batch before stored is there for another day, whatever happens.
const STEP_MAX_MS: u64 = DAY_MS;

/// Whether repeated sends are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dedup {
    /// Always, in production.
    #[default]
    On,
    /// Only to check that the history checker notices.
    #[cfg(feature = "unsafe-test-switches")]
    Off,
}

/// A message's place in the dedup table and the digest of its body.
///
/// Nobody may find an id that hides another sender's: that digest is cryptographic. Whoever finds two bodies with one digest
/// fools but himself: that one is quick.
pub(super) struct Fingerprint {
    id: [u8; 16],
    payload: u64,
}

impl Fingerprint {
    pub(super) fn of(place: &Place, sender: &UserId, message: &NewMessage) -> Self {
        let mut id = blake3::Hasher::new();
        for part in [
            place.app.as_str(),
            place.conversation.as_str(),
            sender.as_str(),
            &message.client_message_id,
        ] {
            id.update(part.as_bytes());
            id.update(&[0]);
        }
        let mut half = [0; 16];
        half.copy_from_slice(id.finalize().as_bytes().split_at(16).0);
        Self {
            id: half,
            payload: xxh3_64(&message.body),
        }
    }

    pub(super) fn same_payload(&self, record: &DedupRecord) -> bool {
        record.payload_digest == self.payload
    }
}

/// The shard's clock once a batch is applied.
pub(super) fn clock_after(dedup_ms: u64, batch: &ShardBatch) -> u64 {
    dedup_ms.saturating_add(batch.elapsed_ms.min(STEP_MAX_MS))
}

fn day(dedup_ms: u64) -> u32 {
    u32::try_from(dedup_ms / DAY_MS).unwrap_or(u32::MAX)
}

/// Where a message that comes at a time may have been stored before: on that day, and on the day before.
fn places(dedup_ms: u64, slot: Slot, fingerprint: &Fingerprint) -> [Vec<u8>; 2] {
    let today = day(dedup_ms);
    [today, today.saturating_sub(1)].map(|day| key::dedup(day, slot, &fingerprint.id))
}

/// What is to be asked of the store before entries are applied: all at once costs half.
#[derive(Default)]
pub(super) struct Questions(Vec<Vec<u8>>);

impl Questions {
    /// A message that comes at a time.
    pub(super) fn add(&mut self, dedup_ms: u64, slot: Slot, fingerprint: &Fingerprint) {
        self.0.extend(places(dedup_ms, slot, fingerprint));
    }

    pub(super) fn ask(self, store: &dyn StateStore, dedup: Dedup) -> Result<Known, StoreError> {
        let mut known = Known::default();
        if dedup != Dedup::On || self.0.is_empty() {
            return Ok(known);
        }
        let rows = store.get_many(Table::Dedup, &self.0)?;
        for (place, row) in self.0.into_iter().zip(rows) {
            let record = row.map(|row| decode(Table::Dedup.name(), &row));
            known.0.insert(place, record.transpose()?);
        }
        Ok(known)
    }
}

/// What was stored before, of the messages that are applied together, by their places. None: nothing.
#[derive(Default)]
pub(super) struct Known(HashMap<Vec<u8>, Option<DedupRecord>>);

impl Batch<'_, '_> {
    /// What was stored for this message before, if anything.
    pub(super) fn find_duplicate(
        &self,
        slot: Slot,
        fingerprint: &Fingerprint,
    ) -> Result<Option<DedupRecord>, StoreError> {
        if self.dedup != Dedup::On {
            return Ok(None);
        }
        for place in places(self.state.dedup_ms, slot, fingerprint) {
            let known = match self.known.0.get(&place) {
                Some(known) => *known,
                None => self.rows.get(Table::Dedup, place)?, // nobody asked before
            };
            if known.is_some() {
                return Ok(known);
            }
        }
        Ok(None)
    }

    /// Remembers what was stored.
    pub(super) fn remember(&mut self, slot: Slot, fingerprint: &Fingerprint, seq: u64) {
        let record = DedupRecord {
            seq,
            time_ms: self.state.time_ms,
            payload_digest: fingerprint.payload,
        };
        let place = key::dedup(day(self.state.dedup_ms), slot, &fingerprint.id);
        self.rows.put(Table::Dedup, place.clone(), &record);
        self.known.0.insert(place, Some(record));
    }
}

/// The days that may have rows, by a shard's counters.
pub(super) fn days(state: &ShardState) -> RangeInclusive<u32> {
    let today = day(state.dedup_ms);
    today.saturating_sub(1)..=today
}

/// The shard's clock goes on. At the first batch of a day what is older than the day before is removed; answers whether it
/// was one.
pub(super) fn go_on(
    state: &mut ShardState,
    batch: &ShardBatch,
    slots: Option<SlotRange>,
    rows: &mut Rows<'_>,
) -> bool {
    let before = days(state);
    state.dedup_ms = clock_after(state.dedup_ms, batch);
    let now = days(state);
    for day in before.clone().filter(|day| !now.contains(day)) {
        if let Some(slots) = slots {
            let (from, to) = key::dedup_day(day, slots);
            rows.delete_range(Table::Dedup, from, to);
        }
    }
    before != now
}
