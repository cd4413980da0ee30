//! One entry's commands while they are applied: the shard's counters, its rows, and what it has for others.

use parlance_proto::ids::ShardId;
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::store::v1::{OutboxBatch, OutboxItem, ShardState, outbox_item};

use super::dedup::{Dedup, Known};
use super::effect::Effect;
use super::level::Levels;
use super::place::Place;
use super::rows::Rows;
use super::tips::Tips;
use crate::conversation::{Audience, audience};
use crate::machine::Replicas;
use crate::store::{StoreError, Table, key};

pub(super) struct Batch<'a, 's> {
    pub(super) shard: ShardId,
    /// The entry's feature level, from which on a command may do something else than before.
    pub(super) level: u32,
    pub(super) state: &'a mut ShardState,
    /// What the shard owns; none before it has applied anything.
    pub(super) slots: Option<SlotRange>,
    pub(super) replicas: &'a Replicas,
    pub(super) rows: &'a mut Rows<'s>,
    pub(super) tips: &'a mut Tips,
    pub(super) dedup: Dedup,
    pub(super) known: &'a mut Known,
    pub(super) levels: &'a Levels,
    /// None: nobody wants them.
    pub(super) effects: Option<&'a mut Vec<Effect>>,
    pub(super) outbox: Vec<OutboxItem>,
}

impl Batch<'_, '_> {
    pub(super) fn owns(&self, slot: Slot) -> bool {
        self.slots.is_some_and(|slots| slots.contains(slot))
    }

    /// Puts an item into the outbox under the next number, and what it comes to beside it.
    pub(super) fn put_outbox(
        &mut self,
        place: &Place,
        item: outbox_item::Body,
        effect: impl FnOnce(u64, Audience) -> Effect,
    ) -> Result<(), StoreError> {
        let number = self.next_number();
        if let Some(effects) = &mut self.effects {
            let audience = audience(self.rows, &place.keys, &place.conversation)?;
            effects.push(effect(number, audience));
        }
        self.outbox.push(OutboxItem {
            app_id: place.app.as_str().to_owned(),
            conversation_id: place.conversation.as_str().to_owned(),
            body: Some(item),
        });
        Ok(())
    }

    fn next_number(&mut self) -> u64 {
        self.state.outbox_last += 1;
        self.state.outbox_last
    }

    /// The entry's commands are applied.
    pub(super) fn finish(self) {
        if !self.outbox.is_empty() {
            let place = key::outbox(self.shard, self.state.outbox_last);
            let batch = OutboxBatch { items: self.outbox };
            self.rows.put(Table::Outbox, place, &batch);
        }
    }
}
