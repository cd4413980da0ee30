//! `SplitCommand`: the shard gives the upper part of its slots to a child, on the same replicas. No row of a conversation or
//! user is touched: the child has them from here on.

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{AppId, ConversationId, ShardId};
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::store::v1::{OutboxBatch, OutboxItem, ShardState, SplitCommand};

use super::batch::Batch;
use super::outbox::{numbered, slowest, undelivered};
use super::range::state_of_new_shard;
use crate::machine::{CommandOutcome, state_without_log};
use crate::store::{StoreError, Table, key};

/// Undelivered outbox items that a split may have to look through; above it waits, and is asked for again.
const UNDELIVERED_MAX: usize = 16 * 1024;

pub(super) fn apply(
    split: &SplitCommand,
    batch: &mut Batch<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    if batch.state.splits.contains(split) {
        return Ok(CommandOutcome::Split); // the first answer was lost
    }
    let slots = match check(split, batch) {
        Ok(slots) => slots,
        Err(error) => return Ok(CommandOutcome::Refused(error)),
    };
    let Some(items) = moving_items(slots.1, batch)? else {
        let text = format!(
            "more than {UNDELIVERED_MAX} pushes of the shard are under way: the split waits"
        );
        return Ok(CommandOutcome::Refused(Error::new(
            ErrorCode::Overloaded,
            text,
        )));
    };
    let child = ShardId(split.child);
    write_child(child, slots.1, split.epoch, items, batch);
    batch.state.last_slot = slots.0.last().number().into();
    batch.state.epoch = split.epoch;
    batch.state.splits.push(*split);
    batch.slots = Some(slots.0);
    Ok(CommandOutcome::Split)
}

/// What stays and what goes.
fn check(split: &SplitCommand, batch: &Batch<'_, '_>) -> Result<(SlotRange, SlotRange), Error> {
    let refuse = |text: String| Err(Error::new(ErrorCode::PreconditionFailed, text));
    if !batch.replicas.are_settled() {
        return refuse("the shard's replicas are changing: split it when they have".to_owned());
    }
    if split.epoch != batch.state.epoch + 1 {
        return refuse(format!(
            "the shard's slots have epoch {}, and the split is for what follows {}",
            batch.state.epoch,
            split.epoch.saturating_sub(1)
        ));
    }
    let cut = Slot::new(split.first_slot).and_then(|slot| batch.slots?.split_at(slot));
    match cut {
        Some((stays, goes)) if u32::from(goes.last().number()) == split.last_slot => {
            Ok((stays, goes))
        }
        _ => refuse(format!(
            "slots {} to {} are not the upper part of the shard's slots, {}",
            split.first_slot,
            split.last_slot,
            batch
                .slots
                .map_or_else(|| "none".to_owned(), |slots| slots.to_string())
        )),
    }
}

/// The outbox items that the child is to deliver, so that it does not deliver later ones before them; none if there are too
/// many.
fn moving_items(
    moving: SlotRange,
    batch: &Batch<'_, '_>,
) -> Result<Option<Vec<OutboxItem>>, StoreError> {
    let done = slowest(batch.state);
    let mut items = undelivered(batch.rows.store(), batch.shard, done, UNDELIVERED_MAX + 1)?;
    let range = (
        key::outbox(batch.shard, 0),
        key::outbox(batch.shard, u64::MAX),
    );
    // Where the entries are applied together, rows that are done may be among those that were written last.
    for (key, row) in batch.rows.written(Table::Outbox, range) {
        let row = numbered(key, row)?.into_iter();
        items.extend(row.filter(|(number, _)| *number > done));
    }
    if items.len() > UNDELIVERED_MAX {
        return Ok(None);
    }
    let items = items.into_iter().map(|(_, item)| item);
    let items = items.chain(batch.outbox.iter().cloned());
    let moves = |item: &OutboxItem| slot_of(item).is_some_and(|slot| moving.contains(slot));
    Ok(Some(items.filter(moves).collect()))
}

/// The slot of the conversation that an outbox item is about.
pub(super) fn slot_of(item: &OutboxItem) -> Option<Slot> {
    let app = AppId::new(&item.app_id).ok()?;
    let conversation = ConversationId::parse(&item.conversation_id).ok()?;
    Some(Slot::of_conversation(&app, &conversation))
}

fn write_child(
    child: ShardId,
    slots: SlotRange,
    epoch: u64,
    items: Vec<OutboxItem>,
    batch: &mut Batch<'_, '_>,
) {
    let state = ShardState {
        time_ms: batch.state.time_ms,
        dedup_ms: batch.state.dedup_ms,
        outbox_last: items.len() as u64,
        ..state_of_new_shard(slots, epoch, batch.level)
    };
    if !items.is_empty() {
        let place = key::outbox(child, state.outbox_last);
        batch.rows.put(Table::Outbox, place, &OutboxBatch { items });
    }
    batch.rows.put(Table::Meta, key::shard_state(child), &state);
    let applied = state_without_log(&batch.replicas.voters);
    batch.rows.put(Table::Meta, key::applied(child), &applied);
}
