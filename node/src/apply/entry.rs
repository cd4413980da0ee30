//! One entry while it is applied: the shard's counters, its rows, and what it has for other shards.

use parlance_proto::store::v1::{OutboxBatch, OutboxItem, ShardState, outbox_item};

use super::dedup::Dedup;
use super::effect::{Effect, EffectBody};
use super::heads::Heads;
use super::rows::Rows;
use crate::store::{Table, key};

pub(super) struct Entry<'a, 's> {
    pub(super) state: &'a mut ShardState,
    pub(super) rows: &'a mut Rows<'s>,
    pub(super) heads: &'a mut Heads,
    pub(super) dedup: Dedup,
    /// None: nobody wants them.
    effects: Option<&'a mut Vec<Effect>>,
    outbox: Vec<OutboxItem>,
}

impl<'a, 's> Entry<'a, 's> {
    pub(super) fn new(
        state: &'a mut ShardState,
        rows: &'a mut Rows<'s>,
        heads: &'a mut Heads,
        dedup: Dedup,
        effects: Option<&'a mut Vec<Effect>>,
    ) -> Self {
        Self {
            state,
            rows,
            heads,
            dedup,
            effects,
            outbox: Vec::new(),
        }
    }

    /// Puts an item into the outbox under the next number, and its effect beside it.
    pub(super) fn put_outbox(
        &mut self,
        app_id: &str,
        conversation_id: &str,
        item: outbox_item::Body,
        effect: impl FnOnce() -> EffectBody,
    ) {
        if let Some(effects) = &mut self.effects {
            effects.push(Effect {
                number: self.state.outbox_next,
                app_id: app_id.to_owned(),
                conversation_id: conversation_id.to_owned(),
                body: effect(),
            });
        }
        self.outbox.push(OutboxItem {
            app_id: app_id.to_owned(),
            conversation_id: conversation_id.to_owned(),
            body: Some(item),
        });
        self.state.outbox_next += 1;
    }

    /// The entry's commands are applied.
    pub(super) fn finish(self) {
        if !self.outbox.is_empty() {
            let last = self.state.outbox_next - 1;
            self.rows.put(
                Table::Outbox,
                key::outbox(self.rows.group(), last),
                &OutboxBatch { items: self.outbox },
            );
        }
    }
}
