//! A shard's state machine over a store of its own, and the commands that tests give it.

use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::client::v1::{Content, Message as ChatMessage, content, event};
use parlance_proto::common::v1::ErrorCode;
use parlance_proto::event::encode_body;
use parlance_proto::slot::SlotRange;
use parlance_proto::store::v1::{
    CloseGenerationCommand, Command, Consumer, FoundCommand, MarkReadCommand, NewMessage,
    SendCommand, SplitCommand, TouchConversationCommand, Watermark,
};
use parlance_proto::version::FEATURE_LEVELS;

use super::super::*;
use crate::machine::MessageOutcome;
use crate::store::StoreView;
use crate::store::manifest::Existing;
use crate::store::rocks::RocksStore;
use crate::totals::Totals;

pub(crate) const SHARD: ShardId = ShardId(5);
pub(crate) const CHILD: ShardId = ShardId(9);
pub(crate) const CHAT: &str = "d:5:alice:bob";

#[derive(Clone, Default)]
pub(crate) struct Collected(pub(crate) Arc<Mutex<(Vec<Effect>, Vec<OwnedRange>)>>);

impl Effects for Collected {
    fn wanted(&self) -> bool {
        true
    }

    fn publish(&mut self, effects: Vec<Effect>) {
        self.0.lock().0.extend(effects);
    }

    fn owns(&mut self, range: &OwnedRange) {
        self.0.lock().1.push(range.clone());
    }
}

pub(crate) struct Replica {
    _dir: tempfile::TempDir,
    pub(crate) store: Arc<RocksStore>,
    pub(crate) machine: ShardMachine,
    pub(crate) effects: Collected,
    index: u64,
}

pub(crate) fn open(shard: ShardId, store: &Arc<RocksStore>, effects: &Collected) -> ShardMachine {
    let sink = Box::new(effects.clone());
    let levels = Levels::new(FEATURE_LEVELS);
    ShardMachine::open(
        shard,
        store.clone(),
        sink,
        dedup::Dedup::On,
        levels,
        &Totals::default().tips,
    )
    .unwrap()
}

impl Replica {
    /// Of a shard that owns nothing yet.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(RocksStore::open(dir.path(), Existing::No).unwrap());
        let effects = Collected::default();
        Self {
            _dir: dir,
            machine: open(SHARD, &store, &effects),
            store,
            effects,
            index: 0,
        }
    }

    /// Of a shard that owns every slot.
    pub(crate) fn new() -> Self {
        let mut replica = Self::empty();
        assert_eq!(replica.one(0, found(SlotRange::ALL)), CommandOutcome::Found);
        replica
    }

    /// The child of a split, on the same node.
    pub(crate) fn child(&self) -> Self {
        let effects = Collected::default();
        Self {
            _dir: tempfile::tempdir().unwrap(),
            store: self.store.clone(),
            machine: open(CHILD, &self.store, &effects),
            effects,
            index: 0,
        }
    }

    /// Applies batches together, as one write.
    pub(crate) fn apply(&mut self, batches: &[ShardBatch]) -> Vec<CommandOutcome> {
        let entries: Vec<CommittedEntry> = batches
            .iter()
            .map(|batch| {
                self.index += 1;
                CommittedEntry {
                    index: self.index,
                    term: 1,
                    payload: Some(batch.encode_to_vec().into()),
                    ..CommittedEntry::default()
                }
            })
            .collect();
        let mut write = WriteBatch::default();
        let outcomes = self.machine.apply(&entries, &mut write).unwrap();
        self.store.write(&write).unwrap();
        self.machine.written();
        let commands = outcomes.into_iter().flat_map(|outcome| match outcome {
            Outcome::Shard(outcomes) => outcomes,
            other => panic!("unexpected {other}"),
        });
        commands.collect()
    }

    pub(crate) fn one(&mut self, time_ms: i64, command: command::Body) -> CommandOutcome {
        self.apply(&[batch(time_ms, [command], 0)]).remove(0)
    }

    /// All rows that the machine says are its own.
    pub(crate) fn rows(&self) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let read = &mut |view: &dyn StoreView| {
            for range in &*self.machine.ranges() {
                view.scan(range, &mut |key, value| {
                    rows.push((range.table, key.to_vec(), value.to_vec()));
                    true
                })?;
            }
            Ok(())
        };
        self.store.view(read).unwrap();
        rows
    }

    pub(crate) fn ranges(&self) -> Vec<OwnedRange> {
        self.effects.0.lock().1.clone()
    }
}

pub(crate) fn batch(
    time_ms: i64,
    commands: impl IntoIterator<Item = command::Body>,
    relayed: u64,
) -> ShardBatch {
    let commands = commands
        .into_iter()
        .map(|body| Command { body: Some(body) })
        .collect();
    ShardBatch {
        time_ms,
        commands,
        watermarks: vec![Watermark {
            consumer: Consumer::Relay.into(),
            number: relayed,
        }],
        level: *FEATURE_LEVELS.end(),
        elapsed_ms: 0,
    }
}

pub(crate) fn found(slots: SlotRange) -> command::Body {
    command::Body::Found(FoundCommand {
        first_slot: slots.first().number().into(),
        last_slot: slots.last().number().into(),
    })
}

pub(crate) fn split(first_slot: u32, epoch: u64) -> command::Body {
    command::Body::Split(SplitCommand {
        child: CHILD.0,
        first_slot,
        last_slot: 16_383,
        epoch,
    })
}

pub(crate) fn message(id: &str, text: &str) -> NewMessage {
    let content = Content {
        kind: Some(content::Kind::Text(text.into())),
    };
    NewMessage {
        client_message_id: id.into(),
        body: encode_body(event::Body::Message(ChatMessage {
            client_message_id: id.into(),
            content: Some(content),
        })),
    }
}

pub(crate) fn send(sender: &str, id: &str, text: &str) -> command::Body {
    send_to(CHAT, sender, vec![message(id, text)])
}

pub(crate) fn send_to(
    conversation: &str,
    sender: &str,
    messages: Vec<NewMessage>,
) -> command::Body {
    command::Body::Send(SendCommand {
        app_id: "demo".into(),
        conversation_id: conversation.into(),
        sender: sender.into(),
        session_id: "s".into(),
        messages,
    })
}

pub(crate) fn read(user: &str, seq: u64) -> command::Body {
    command::Body::MarkRead(MarkReadCommand {
        app_id: "demo".into(),
        conversation_id: CHAT.into(),
        user_id: user.into(),
        seq,
    })
}

pub(crate) fn touch(user: &str, conversation: &str) -> command::Body {
    command::Body::TouchConversation(TouchConversationCommand {
        app_id: "demo".into(),
        user_id: user.into(),
        conversation_id: conversation.into(),
    })
}

pub(crate) fn close(user: &str, generation: u64) -> command::Body {
    command::Body::CloseGeneration(CloseGenerationCommand {
        app_id: "demo".into(),
        user_id: user.into(),
        generation,
    })
}

pub(crate) fn stored(seq: u64, time_ms: i64, duplicate: bool) -> MessageOutcome {
    MessageOutcome::Stored {
        seq,
        time_ms,
        duplicate,
    }
}

pub(crate) fn sent(seq: u64, time_ms: i64, duplicate: bool) -> CommandOutcome {
    CommandOutcome::Sent(vec![stored(seq, time_ms, duplicate)])
}

pub(crate) fn code(outcome: CommandOutcome) -> ErrorCode {
    match outcome {
        CommandOutcome::Refused(error) => error.code(),
        CommandOutcome::Sent(mut messages) => match messages.remove(0) {
            MessageOutcome::Refused(error) => error.code(),
            other @ MessageOutcome::Stored { .. } => panic!("not refused: {other:?}"),
        },
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn rows_between(
    replica: &Replica,
    table: Table,
    (from, to): (Vec<u8>, Vec<u8>),
) -> usize {
    let mut rows = 0;
    let order = crate::store::Order::Ascending;
    replica
        .store
        .scan(table, &from, &to, order, &mut |_, _| {
            rows += 1;
            true
        })
        .unwrap();
    rows
}
