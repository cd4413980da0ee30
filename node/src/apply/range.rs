//! The slots that a shard owns, and the rows that follow from them.

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::ShardId;
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::store::v1::{FoundCommand, ShardState, SplitCommand};

use super::batch::Batch;
use super::dedup;
use super::outbox;
use crate::machine::CommandOutcome;
use crate::store::{RowRange, StoreError, Table, key};

/// The epoch of a range that was not split yet.
pub const FIRST_EPOCH: u64 = 1;

/// What a shard owns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedRange {
    /// Its slots; none before it has applied anything.
    pub slots: Option<SlotRange>,
    /// Rises with each change of them.
    pub epoch: u64,
    /// What it was split into since it began.
    pub splits: Vec<SplitCommand>,
}

impl OwnedRange {
    /// Whether a slot is the shard's.
    pub fn contains(&self, slot: Slot) -> bool {
        self.slots.is_some_and(|slots| slots.contains(slot))
    }
}

/// The counters of a shard that begins without rows and owns these slots.
pub(super) fn state_of_new_shard(slots: SlotRange, epoch: u64, level: u32) -> ShardState {
    let mut state = ShardState {
        first_slot: slots.first().number().into(),
        last_slot: slots.last().number().into(),
        epoch,
        ..ShardState::default()
    };
    outbox::add_consumers(&mut state, level);
    state
}

/// What a shard's counters say that it owns.
pub fn owned_range(state: &ShardState) -> Result<OwnedRange, StoreError> {
    let slots = SlotRange::new(state.first_slot, state.last_slot);
    if slots.is_none() {
        return Err(StoreError::Damaged {
            what: "slots of a shard".to_owned(),
            reason: format!("{} to {}", state.first_slot, state.last_slot),
        });
    }
    Ok(OwnedRange {
        slots: slots.filter(|_| state.epoch > 0),
        epoch: state.epoch,
        splits: state.splits.clone(),
    })
}

/// `FoundCommand`: the first leader says, by the cluster map, what the shard owns.
pub(super) fn found(
    found: &FoundCommand,
    batch: &mut Batch<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    if batch.state.epoch > 0 {
        return Ok(CommandOutcome::Found);
    }
    let Some(slots) = SlotRange::new(found.first_slot, found.last_slot) else {
        let text = format!(
            "slots {} to {} are not a range",
            found.first_slot, found.last_slot
        );
        return Ok(CommandOutcome::Refused(Error::new(
            ErrorCode::InvalidArgument,
            text,
        )));
    };
    batch.state.first_slot = found.first_slot;
    batch.state.last_slot = found.last_slot;
    batch.state.epoch = FIRST_EPOCH;
    outbox::add_consumers(batch.state, batch.level);
    batch.slots = Some(slots);
    Ok(CommandOutcome::Found)
}

/// All rows of a shard that owns `slots`, in order within each table.
pub(super) fn rows(shard: ShardId, state: &ShardState, slots: Option<SlotRange>) -> Vec<RowRange> {
    let range = |table, (from, to)| RowRange { table, from, to };
    let own = [Table::Outbox, Table::Meta].map(|table| range(table, key::shard_range(shard)));
    let of_slots = slots.into_iter().flat_map(|slots| {
        let by_slot = key::BY_SLOT.map(|table| range(table, key::slot_range(slots)));
        let dedup =
            dedup::days(state).map(move |day| range(Table::Dedup, key::dedup_day(day, slots)));
        by_slot.into_iter().chain(dedup)
    });
    of_slots.chain(own).collect()
}
