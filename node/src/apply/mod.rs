//! Applies a shard's committed batches: reads rows, writes rows, collects effects.
//!
//! Deterministic: time and ids come with the batch. No clock, no randomness, no tasks, no network. One file for
//! each command; [`ShardMachine`] is the one door.

#![deny(clippy::iter_over_hash_type)] // its order differs between replicas

mod batch;
mod conversation_list;
pub mod dedup;
mod effect;
mod level;
mod mark_read;
mod outbox;
mod place;
mod range;
mod rows;
mod send;
mod split;
mod tips;

use std::sync::Arc;

use parlance_proto::common::v1::Error;
use parlance_proto::ids::ShardId;
use parlance_proto::store::v1::{
    CloseGenerationCommand, FoundCommand, MarkReadCommand, ShardBatch, ShardState, SplitCommand,
    TouchConversationCommand, command,
};
use parlance_proto::version::TEST_FEATURE_LEVEL;
use prost::Message;

use batch::Batch;
pub use effect::{Effect, Effects};
pub use level::Levels;
pub use outbox::{CONSUMERS, event_header, frame_of_event, undelivered, watermark};
pub use range::{FIRST_EPOCH, OwnedRange, owned_range};
use rows::Rows;
use tips::Tips;

use crate::machine::{CommandOutcome, CommittedEntry, Outcome, StateMachine};
use crate::store::{RowRange, StateStore, StoreError, Table, WriteBatch, decode, key};
use crate::totals::Total;

/// The state machine of one shard.
pub struct ShardMachine {
    shard: ShardId,
    store: Arc<dyn StateStore>,
    state: ShardState,
    range: OwnedRange,
    rows: Arc<[RowRange]>,
    tips: Tips,
    effects: Vec<Effect>,
    /// Whether what was applied last changed the range.
    changed: bool,
    sink: Box<dyn Effects>,
    dedup: dedup::Dedup,
    levels: Levels,
}

impl ShardMachine {
    /// Reads the shard's counters; effects go to `sink` after each write. `tips` are what all shards may keep of conversations.
    pub fn open(
        shard: ShardId,
        store: Arc<dyn StateStore>,
        sink: Box<dyn Effects>,
        dedup: dedup::Dedup,
        levels: Levels,
        tips: &Arc<Total>,
    ) -> Result<Self, StoreError> {
        let state = shard_state(&*store, shard)?;
        let mut machine = Self {
            shard,
            store,
            range: OwnedRange::default(),
            rows: Arc::default(),
            state,
            tips: Tips::new(tips),
            effects: Vec::new(),
            changed: false,
            sink,
            dedup,
            levels,
        };
        machine.range_changed()?;
        Ok(machine)
    }

    /// Follows the range in `state`, and tells who watches it.
    fn range_changed(&mut self) -> Result<(), StoreError> {
        self.range = owned_range(&self.state)?;
        self.rows = range::rows(self.shard, &self.state, self.range.slots).into();
        self.sink.owns(&self.range);
        Ok(())
    }

    fn apply_batch(
        &mut self,
        entry: Parsed<'_>,
        rows: &mut Rows<'_>,
        known: &mut dedup::Known,
    ) -> Result<Vec<CommandOutcome>, StoreError> {
        let Parsed {
            entry,
            batch,
            commands,
        } = entry;
        self.levels.check(batch.level)?;
        self.state.time_ms = self.state.time_ms.max(batch.time_ms); // never back
        let new_day = dedup::go_on(&mut self.state, &batch, self.range.slots, rows);
        if self.state.epoch > 0 {
            outbox::add_consumers(&mut self.state, batch.level);
        }
        outbox::advance(self.shard, &mut self.state, &batch.watermarks, rows);
        let effects = self.sink.wanted().then_some(&mut self.effects);
        let mut applied = Batch {
            shard: self.shard,
            level: batch.level,
            state: &mut self.state,
            slots: self.range.slots,
            replicas: &entry.replicas,
            rows,
            tips: &mut self.tips,
            dedup: self.dedup,
            known,
            levels: &self.levels,
            effects,
            outbox: Vec::new(),
        };
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(apply_command(command, &mut applied, &self.levels)?);
        }
        applied.finish();
        let changed = self.state.epoch != self.range.epoch;
        if changed {
            (self.range, self.changed) = (owned_range(&self.state)?, true);
        }
        if changed || new_day {
            self.rows = range::rows(self.shard, &self.state, self.range.slots).into();
        }
        Ok(outcomes)
    }
}

/// An entry whose commands are ready to be applied.
struct Parsed<'a> {
    entry: &'a CommittedEntry,
    batch: ShardBatch,
    commands: Vec<ParsedCommand>,
}

/// A send is parsed before, so that what it needs of the store is read together with what others need.
enum ParsedCommand {
    Send(Result<send::Parsed, Error>),
    MarkRead(MarkReadCommand),
    TouchConversation(TouchConversationCommand),
    CloseGeneration(CloseGenerationCommand),
    Split(SplitCommand),
    Found(FoundCommand),
    Test,
    /// A newer program's.
    Unknown,
}

impl<'a> Parsed<'a> {
    /// None: there is nothing in it for a machine.
    fn of(entry: &'a CommittedEntry, shard: ShardId) -> Result<Option<Self>, StoreError> {
        let Some(payload) = &entry.payload else {
            return Ok(None);
        };
        let mut batch = ShardBatch::decode(payload.clone()).map_err(|e| StoreError::Damaged {
            what: format!("log entry {} of shard {shard}", entry.index),
            reason: e.to_string(),
        })?;
        let commands = std::mem::take(&mut batch.commands).into_iter();
        let parsed = commands.map(|command| match command.body {
            Some(command::Body::Send(send)) => ParsedCommand::Send(send::Parsed::of(send)),
            Some(command::Body::MarkRead(mark)) => ParsedCommand::MarkRead(mark),
            Some(command::Body::TouchConversation(touch)) => {
                ParsedCommand::TouchConversation(touch)
            }
            Some(command::Body::CloseGeneration(close)) => ParsedCommand::CloseGeneration(close),
            Some(command::Body::Split(split)) => ParsedCommand::Split(split),
            Some(command::Body::Found(found)) => ParsedCommand::Found(found),
            Some(command::Body::Test(_)) => ParsedCommand::Test,
            None => ParsedCommand::Unknown,
        });
        Ok(Some(Self {
            commands: parsed.collect(),
            entry,
            batch,
        }))
    }

    /// What was stored before of what these entries want to store.
    fn known(
        entries: &[Option<Self>],
        mut dedup_ms: u64,
        store: &dyn StateStore,
        dedup: dedup::Dedup,
    ) -> Result<dedup::Known, StoreError> {
        let mut questions = dedup::Questions::default();
        for entry in entries.iter().flatten() {
            dedup_ms = dedup::clock_after(dedup_ms, &entry.batch);
            for command in &entry.commands {
                if let ParsedCommand::Send(Ok(send)) = command {
                    for fingerprint in send.fingerprints() {
                        questions.add(dedup_ms, send.place.slot, fingerprint);
                    }
                }
            }
        }
        questions.ask(store, dedup)
    }
}

fn apply_command(
    command: ParsedCommand,
    batch: &mut Batch<'_, '_>,
    levels: &Levels,
) -> Result<CommandOutcome, StoreError> {
    match command {
        ParsedCommand::Send(send) => send::apply(send, batch),
        ParsedCommand::MarkRead(mark) => mark_read::apply(mark, batch),
        ParsedCommand::TouchConversation(touch) => conversation_list::touch(&touch, batch),
        ParsedCommand::CloseGeneration(close) => conversation_list::close(&close, batch),
        ParsedCommand::Split(split) => split::apply(&split, batch),
        ParsedCommand::Found(found) => range::found(&found, batch),
        ParsedCommand::Test => levels
            .check(TEST_FEATURE_LEVEL)
            .map(|()| CommandOutcome::Nothing),
        // Going on without it would make this replica differ from those that know it.
        ParsedCommand::Unknown => Err(levels.unknown()),
    }
}

/// A shard's counters as its rows have them.
pub fn shard_state(store: &dyn StateStore, shard: ShardId) -> Result<ShardState, StoreError> {
    let row = store.get(Table::Meta, &key::shard_state(shard))?;
    row.map_or_else(
        || Ok(ShardState::default()),
        |row| decode("shard state", &row),
    )
}

impl StateMachine for ShardMachine {
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        write: &mut WriteBatch,
    ) -> Result<Vec<Outcome>, StoreError> {
        let store = self.store.clone();
        let parsed = entries.iter().map(|entry| Parsed::of(entry, self.shard));
        let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
        let mut known = Parsed::known(&parsed, self.state.dedup_ms, &*store, self.dedup)?;
        let mut rows = Rows::new(&*store);
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in parsed {
            outcomes.push(match entry {
                None => Outcome::None,
                Some(entry) => Outcome::Shard(self.apply_batch(entry, &mut rows, &mut known)?),
            });
        }
        rows.put(Table::Meta, key::shard_state(self.shard), &self.state);
        rows.finish(write);
        if self.changed {
            // A child's rows have no log that could bring them back: they are on disk before it starts.
            write.put_on_disk_first();
        }
        self.tips.settle();
        Ok(outcomes)
    }

    fn written(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.tips.forget();
            self.sink.owns(&self.range);
        }
        if !self.effects.is_empty() {
            self.sink.publish(std::mem::take(&mut self.effects));
        }
    }

    fn ranges(&self) -> Arc<[RowRange]> {
        self.rows.clone()
    }

    fn restored(&mut self) -> Result<(), StoreError> {
        self.effects.clear();
        self.tips.forget();
        self.state = shard_state(&*self.store, self.shard)?;
        self.range_changed()
    }
}

#[cfg(test)]
pub(crate) mod tests;
