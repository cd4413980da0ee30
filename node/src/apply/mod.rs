//! Applies a shard's committed batches: reads rows, writes rows, collects effects.
//!
//! Deterministic: time and ids come with the batch. No clock, no randomness, no tasks, no network. One file for
//! each command; [`ShardMachine`] is the one door.

mod conversation_list;
pub mod dedup;
mod effect;
mod entry;
mod heads;
mod mark_read;
mod rows;
mod send;

use std::sync::Arc;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::shard::Group;
use parlance_proto::store::v1::{Command, MetaOutcome, ShardBatch, ShardState, command};
use prost::Message;

pub use effect::{Effect, EffectBody, Effects};
use entry::Entry;
use heads::Heads;
pub use mark_read::unread;
use rows::Rows;
pub use send::{client_event, encoded_event};

use crate::raft::{CommittedEntry, StateMachine};
use crate::store::{StateStore, StoreError, Table, WriteSet, key};

/// What applying one entry came to.
#[derive(Debug, Clone, Default)]
pub enum Outcome {
    /// An entry of Raft's own.
    #[default]
    None,
    /// One for each command of a shard's batch.
    Shard(Vec<CommandOutcome>),
    /// A command of the meta group.
    Meta(MetaOutcome),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::None => f.write_str("none"),
            Outcome::Shard(outcomes) => write!(f, "{} commands", outcomes.len()),
            Outcome::Meta(outcome) => write!(f, "{outcome:?}"),
        }
    }
}

/// What applying one command came to.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandOutcome {
    /// The message is in the log, now or since the first time.
    Sent {
        /// Its place in the conversation.
        seq: u64,
        /// The leader's time when it was put in order.
        time_ms: i64,
        /// It was there before.
        duplicate: bool,
    },
    /// The read cursor is here now.
    Read {
        /// How far the user has read.
        read_seq: u64,
        /// Messages of others behind that.
        unread: u64,
    },
    /// The conversation is in the user's list.
    Listed,
    /// The command broke a rule; nothing was written.
    Refused(Error),
}

/// The state machine of one shard.
pub struct ShardMachine {
    group: Group,
    store: Arc<dyn StateStore>,
    state: ShardState,
    heads: Heads,
    effects: Vec<Effect>,
    sink: Box<dyn Effects>,
    dedup: dedup::Dedup,
}

impl ShardMachine {
    /// Reads the shard's counters; effects go to `sink` after each write.
    pub fn open(
        group: Group,
        store: Arc<dyn StateStore>,
        sink: Box<dyn Effects>,
        dedup: dedup::Dedup,
    ) -> Result<Self, StoreError> {
        let mut machine = Self {
            group,
            store,
            state: ShardState::default(),
            heads: Heads::default(),
            effects: Vec::new(),
            sink,
            dedup,
        };
        machine.load()?;
        Ok(machine)
    }

    fn load(&mut self) -> Result<(), StoreError> {
        self.state = shard_state(&*self.store, self.group)?;
        Ok(())
    }

    fn apply_batch(
        &mut self,
        batch: ShardBatch,
        rows: &mut Rows<'_>,
    ) -> Result<Vec<CommandOutcome>, StoreError> {
        self.state.time_ms = self.state.time_ms.max(batch.time_ms);
        dedup::forget_old_days(&mut self.state, rows);
        if batch.relayed > self.state.relayed {
            forget_relayed(&mut self.state, batch.relayed, rows);
        }
        let effects = self.sink.wanted().then_some(&mut self.effects);
        let mut entry = Entry::new(&mut self.state, rows, &mut self.heads, self.dedup, effects);
        let outcomes = batch
            .commands
            .into_iter()
            .map(|command| apply_command(command, &mut entry))
            .collect();
        entry.finish();
        outcomes
    }
}

fn apply_command(
    command: Command,
    entry: &mut Entry<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    match command.body {
        Some(command::Body::Send(send)) => send::apply(send, entry),
        Some(command::Body::MarkRead(mark)) => mark_read::apply(mark, entry),
        Some(command::Body::AddConversation(add)) => conversation_list::apply(add, entry),
        // A newer leader's command: every replica of this version refuses it alike.
        None => Ok(refused(
            ErrorCode::Unsupported,
            "this version does not know the command",
        )),
    }
}

/// Outbox rows are removed this many items at a time, so that a watermark on each batch does not cost a range tombstone each.
const OUTBOX_TRIM: u64 = 4096;

fn forget_relayed(state: &mut ShardState, relayed: u64, rows: &mut Rows<'_>) {
    let (before, now) = (state.relayed / OUTBOX_TRIM, relayed / OUTBOX_TRIM);
    if now > before {
        let group = rows.group();
        rows.delete_range(
            Table::Outbox,
            key::outbox(group, 0),
            key::outbox(group, now * OUTBOX_TRIM + 1),
        );
    }
    state.relayed = relayed;
}

fn refused(code: ErrorCode, message: &str) -> CommandOutcome {
    CommandOutcome::Refused(Error::new(code, message))
}

/// A shard's counters as its rows have them.
pub fn shard_state(store: &dyn StateStore, group: Group) -> Result<ShardState, StoreError> {
    let row = store.get(Table::Meta, &key::shard_state(group))?;
    row.map_or_else(
        || {
            Ok(ShardState {
                outbox_next: 1,
                ..Default::default()
            })
        },
        |row| decode("shard state", &row),
    )
}

/// Decodes a stored value; a value that cannot be decoded is damage.
pub fn decode<M: Message + Default>(what: &str, row: &[u8]) -> Result<M, StoreError> {
    M::decode(row).map_err(|e| StoreError::Damaged {
        what: what.to_owned(),
        reason: e.to_string(),
    })
}

impl StateMachine for ShardMachine {
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        write: &mut WriteSet,
    ) -> Result<Vec<Outcome>, StoreError> {
        let store = self.store.clone();
        let mut rows = Rows::new(self.group, &*store);
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let outcome = match &entry.payload {
                None => Outcome::None,
                Some(payload) => {
                    let batch =
                        ShardBatch::decode(payload.clone()).map_err(|e| StoreError::Damaged {
                            what: format!("log entry {} of group {}", entry.index, self.group),
                            reason: e.to_string(),
                        })?;
                    Outcome::Shard(self.apply_batch(batch, &mut rows)?)
                }
            };
            outcomes.push(outcome);
        }
        rows.put(Table::Meta, key::shard_state(self.group), &self.state);
        rows.finish(write);
        Ok(outcomes)
    }

    fn written(&mut self) {
        if !self.effects.is_empty() {
            self.sink.publish(std::mem::take(&mut self.effects));
        }
    }

    fn restored(&mut self) -> Result<(), StoreError> {
        self.effects.clear();
        self.heads.forget();
        self.load()
    }
}

#[cfg(test)]
mod tests;
