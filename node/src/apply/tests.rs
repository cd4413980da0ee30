//! A shard's promises on one replica: seq without gaps, once, unread counts, determinism, restart.

use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::client::v1::{Content, content};
use parlance_proto::store::v1::{AddConversationCommand, MarkReadCommand, SendCommand};

use super::*;
use crate::digest::digest;
use crate::store::manifest::Existing;
use crate::store::rocks::RocksStore;

const GROUP: Group = 5;
const CHAT: &str = "d:5:alice:bob";

#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<Effect>>>);

impl Effects for Collected {
    fn wanted(&self) -> bool {
        true
    }

    fn publish(&mut self, effects: Vec<Effect>) {
        self.0.lock().extend(effects);
    }
}

struct Replica {
    _dir: tempfile::TempDir,
    store: Arc<RocksStore>,
    machine: ShardMachine,
    effects: Collected,
    index: u64,
}

impl Replica {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(RocksStore::open(dir.path(), Existing::No).unwrap());
        let effects = Collected::default();
        let machine = ShardMachine::open(
            GROUP,
            store.clone(),
            Box::new(effects.clone()),
            dedup::Dedup::On,
        )
        .unwrap();
        Self {
            _dir: dir,
            store,
            machine,
            effects,
            index: 0,
        }
    }

    /// Applies batches together, as one write.
    fn apply(&mut self, batches: &[ShardBatch]) -> Vec<CommandOutcome> {
        let entries: Vec<CommittedEntry> = batches
            .iter()
            .map(|batch| {
                self.index += 1;
                CommittedEntry {
                    index: self.index,
                    term: 1,
                    payload: Some(batch.encode_to_vec().into()),
                }
            })
            .collect();
        let mut write = WriteSet::default();
        let outcomes = self.machine.apply(&entries, &mut write).unwrap();
        self.store.write(write).unwrap();
        self.machine.written();
        let commands = outcomes.into_iter().flat_map(|outcome| match outcome {
            Outcome::Shard(outcomes) => outcomes,
            other => panic!("unexpected {other}"),
        });
        commands.collect()
    }

    fn one(&mut self, time_ms: i64, command: command::Body) -> CommandOutcome {
        let batch = ShardBatch {
            time_ms,
            commands: vec![Command {
                body: Some(command),
            }],
            relayed: 0,
        };
        self.apply(&[batch]).remove(0)
    }
}

fn send(sender: &str, id: &str, text: &str) -> command::Body {
    command::Body::Send(SendCommand {
        app_id: "demo".into(),
        conversation_id: CHAT.into(),
        sender: sender.into(),
        client_message_id: id.into(),
        content: Content {
            kind: Some(content::Kind::Text(text.into())),
        }
        .encode_to_vec()
        .into(),
        session_id: "s".into(),
    })
}

fn read(user: &str, seq: u64) -> command::Body {
    command::Body::MarkRead(MarkReadCommand {
        app_id: "demo".into(),
        conversation_id: CHAT.into(),
        user_id: user.into(),
        seq,
    })
}

fn sent(seq: u64, time_ms: i64, duplicate: bool) -> CommandOutcome {
    CommandOutcome::Sent {
        seq,
        time_ms,
        duplicate,
    }
}

fn code(outcome: CommandOutcome) -> ErrorCode {
    match outcome {
        CommandOutcome::Refused(error) => error.code(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn seq_counts_without_gaps_and_a_repeated_send_returns_the_first_result() {
    let mut replica = Replica::new();
    assert_eq!(
        replica.one(1000, send("alice", "a1", "one")),
        sent(1, 1000, false)
    );
    assert_eq!(
        replica.one(2000, send("bob", "a1", "same id, other sender")),
        sent(2, 2000, false)
    );
    assert_eq!(
        replica.one(3000, send("alice", "a1", "one")),
        sent(1, 1000, true)
    );
    assert_eq!(
        code(replica.one(3000, send("alice", "a1", "other"))),
        ErrorCode::Conflict
    );
    assert_eq!(
        code(replica.one(3000, send("carol", "c1", "not a member"))),
        ErrorCode::PermissionDenied
    );
    assert_eq!(
        replica.one(3000, send("alice", "a2", "two")),
        sent(3, 3000, false)
    );
    let numbers: Vec<u64> = replica.effects.0.lock().iter().map(|e| e.number).collect();
    assert_eq!(
        numbers,
        [1, 2, 3],
        "one effect for each stored message, none for repeats and refusals"
    );
}

#[test]
fn a_repeat_inside_one_write_is_seen() {
    let mut replica = Replica::new();
    let commands = [
        send("alice", "a1", "x"),
        send("alice", "a1", "x"),
        send("alice", "a2", "y"),
    ];
    let commands = commands
        .into_iter()
        .map(|c| Command { body: Some(c) })
        .collect::<Vec<_>>();
    let batch = ShardBatch {
        time_ms: 1,
        commands,
        relayed: 0,
    };
    let outcomes = replica.apply(&[batch.clone(), batch]);
    let expected = [
        (1, false),
        (1, true),
        (2, false),
        (1, true),
        (1, true),
        (2, true),
    ];
    assert_eq!(
        outcomes,
        expected.map(|(seq, duplicate)| sent(seq, 1, duplicate))
    );
}

#[test]
fn repeats_are_known_for_at_least_a_day_and_then_forgotten() {
    const DAY: i64 = 86_400_000;
    let mut replica = Replica::new();
    let late = 10 * DAY - 1; // the last moment of a day
    assert_eq!(
        replica.one(late, send("alice", "a1", "x")),
        sent(1, late, false)
    );
    assert_eq!(
        replica.one(late + DAY, send("alice", "a1", "x")),
        sent(1, late, true)
    );
    assert_eq!(
        replica.one(late + 2 * DAY, send("alice", "a1", "x")),
        sent(2, late + 2 * DAY, false)
    );
    let (from, to) = (key::dedup_day(GROUP, 0), key::dedup_day(GROUP, 10));
    let mut old = 0;
    replica
        .store
        .scan(
            Table::Dedup,
            &from,
            &to,
            crate::store::Order::Rising,
            &mut |_, _| {
                old += 1;
                true
            },
        )
        .unwrap();
    assert_eq!(old, 0, "rows of old days are removed");
}

#[test]
fn time_never_goes_back() {
    let mut replica = Replica::new();
    replica.one(5000, send("alice", "a1", "x"));
    assert_eq!(
        replica.one(4000, send("alice", "a2", "x")),
        sent(2, 5000, false)
    );
}

#[test]
fn unread_counts_are_the_others_messages_behind_the_cursor() {
    let mut replica = Replica::new();
    assert_eq!(code(replica.one(0, read("bob", 1))), ErrorCode::NotFound);
    let senders = ["alice", "alice", "bob", "alice", "bob", "bob", "alice"];
    for (n, sender) in senders.iter().enumerate() {
        replica.one(1, send(sender, &format!("m{n}"), "x"));
    }
    for (user, other) in [("bob", "alice"), ("alice", "bob")] {
        let mut furthest = 0;
        for seq in [1, 3, 2, 6, 99] {
            furthest = seq.min(7).max(furthest);
            let recount = senders
                .iter()
                .enumerate()
                .filter(|(n, s)| **s == other && *n as u64 + 1 > furthest)
                .count();
            let expected = CommandOutcome::Read {
                read_seq: furthest,
                unread: recount as u64,
            };
            assert_eq!(
                replica.one(1, read(user, seq)),
                expected,
                "{user} read {seq}"
            );
        }
    }
    assert_eq!(
        code(replica.one(0, read("carol", 1))),
        ErrorCode::PermissionDenied
    );
}

#[test]
fn the_same_batches_make_the_same_rows_however_they_are_grouped() {
    let batches: Vec<ShardBatch> = (0..50)
        .map(|n| {
            let commands = vec![
                send("alice", &format!("a{}", n % 40), "x"),
                send("bob", &format!("b{n}"), "y"),
                read("alice", n),
                command::Body::AddConversation(AddConversationCommand {
                    app_id: "demo".into(),
                    user_id: "alice".into(),
                    conversation_id: CHAT.into(),
                }),
            ];
            let commands = commands
                .into_iter()
                .map(|c| Command { body: Some(c) })
                .collect();
            ShardBatch {
                time_ms: 1_000 * n as i64,
                commands,
                relayed: n,
            }
        })
        .collect();
    let (mut one, mut other) = (Replica::new(), Replica::new());
    let mut outcomes = Vec::new();
    for batch in &batches {
        outcomes.extend(one.apply(std::slice::from_ref(batch)));
    }
    let grouped: Vec<CommandOutcome> = batches
        .chunks(7)
        .flat_map(|chunk| other.apply(chunk))
        .collect();
    assert_eq!(outcomes, grouped);
    let (a, b) = (
        digest(&*one.store, GROUP).unwrap(),
        digest(&*other.store, GROUP).unwrap(),
    );
    assert_eq!(a.hash_hex, b.hash_hex);
    assert!(a.rows > 100);
}

#[test]
fn relayed_rows_are_removed_alike_however_batches_are_grouped() {
    let sends = |ids: std::ops::Range<u64>, relayed| ShardBatch {
        time_ms: 1,
        commands: ids
            .map(|n| Command {
                body: Some(send("alice", &format!("m{n}"), "x")),
            })
            .collect(),
        relayed,
    };
    let batches = [
        sends(0..10, 0),
        sends(10..OUTBOX_TRIM, 10),
        sends(OUTBOX_TRIM..OUTBOX_TRIM + 5, OUTBOX_TRIM),
    ];
    let (mut one, mut other) = (Replica::new(), Replica::new());
    for batch in &batches {
        one.apply(std::slice::from_ref(batch));
    }
    other.apply(&batches);
    assert_eq!(
        digest(&*one.store, GROUP).unwrap().hash_hex,
        digest(&*other.store, GROUP).unwrap().hash_hex
    );
}

#[test]
fn the_outbox_keeps_what_was_not_relayed_across_a_restart() {
    let mut replica = Replica::new();
    for n in 0..10_000u64 {
        let send = Command {
            body: Some(send("alice", &format!("m{n}"), "x")),
        };
        replica.apply(&[ShardBatch {
            time_ms: 1,
            commands: vec![send],
            relayed: n.saturating_sub(100),
        }]);
    }
    let state = shard_state(&*replica.store, GROUP).unwrap();
    assert_eq!((state.outbox_next, state.relayed), (10_001, 9_899));
    let mut left = Vec::new();
    let (from, to) = (key::outbox(GROUP, 0), key::outbox(GROUP, u64::MAX));
    replica
        .store
        .scan(
            Table::Outbox,
            &from,
            &to,
            crate::store::Order::Rising,
            &mut |key, _| {
                left.extend(key::outbox_number(key));
                true
            },
        )
        .unwrap();
    assert!(left.first().is_some_and(|first| *first <= 9_900) && left.last() == Some(&10_000));
    assert!(
        left.len() < 2 * OUTBOX_TRIM as usize,
        "relayed rows are removed"
    );
    replica.machine.restored().unwrap();
    assert_eq!(
        replica.one(2, send("alice", "new", "x")),
        sent(10_001, 2, false)
    );
}

#[test]
fn an_entry_that_cannot_be_decoded_stops_the_replica() {
    let mut replica = Replica::new();
    let entry = CommittedEntry {
        index: 1,
        term: 1,
        payload: Some(vec![0xff; 3].into()),
    };
    let refused = replica.machine.apply(&[entry], &mut WriteSet::default());
    assert!(matches!(refused, Err(StoreError::Damaged { .. })));
}
