//! A send and its retries store one message: what was stored under a client message id is remembered for at least
//! a day, and the day before, by the time that the batches carry.

use parlance_proto::store::v1::{DedupRecord, SendCommand, ShardState};

use super::entry::Entry;
use super::rows::Rows;
use crate::store::{StoreError, Table, key};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

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

/// A send's place in the dedup table and the digest of its content.
pub(super) struct Fingerprint {
    id: [u8; 16],
    payload: [u8; 16],
}

impl Fingerprint {
    pub(super) fn of(send: &SendCommand) -> Self {
        let mut id = blake3::Hasher::new();
        for part in [
            &send.app_id,
            &send.conversation_id,
            &send.sender,
            &send.client_message_id,
        ] {
            id.update(part.as_bytes());
            id.update(&[0]);
        }
        Self {
            id: first_half(&id.finalize()),
            payload: first_half(&blake3::hash(&send.content)),
        }
    }

    pub(super) fn same_payload(&self, record: &DedupRecord) -> bool {
        record.payload_digest.as_ref() == self.payload
    }
}

fn first_half(hash: &blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(hash.as_bytes().split_at(16).0);
    half
}

fn day(time_ms: i64) -> u32 {
    u32::try_from(time_ms / DAY_MS).unwrap_or(0)
}

/// What was stored for this send before, if anything.
pub(super) fn find(
    entry: &Entry<'_, '_>,
    fingerprint: &Fingerprint,
) -> Result<Option<DedupRecord>, StoreError> {
    if entry.dedup != Dedup::On {
        return Ok(None);
    }
    let today = day(entry.state.time_ms);
    for day in [today, today.saturating_sub(1)] {
        let place = key::dedup(entry.rows.group(), day, &fingerprint.id);
        let found = entry.rows.get(Table::Dedup, place)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Remembers what was stored.
pub(super) fn remember(entry: &mut Entry<'_, '_>, fingerprint: &Fingerprint, seq: u64) {
    let time_ms = entry.state.time_ms;
    let record = DedupRecord {
        seq,
        time_ms,
        payload_digest: fingerprint.payload.to_vec().into(),
    };
    let place = key::dedup(entry.rows.group(), day(time_ms), &fingerprint.id);
    entry.rows.put(Table::Dedup, place, &record);
}

/// At the first batch of a day: removes what is older than the day before.
pub(super) fn forget_old_days(state: &mut ShardState, rows: &mut Rows<'_>) {
    let today = day(state.time_ms);
    if u64::from(today) > state.dedup_day {
        let group = rows.group();
        rows.delete_range(
            Table::Dedup,
            key::dedup_day(group, 0),
            key::dedup_day(group, today.saturating_sub(1)),
        );
        state.dedup_day = u64::from(today);
    }
}
