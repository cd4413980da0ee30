//! A shard's promises on one replica: seq without gaps, once, unread counts, determinism, restart.

pub(crate) mod fixture;
mod outbox;
mod split;

use parlance_proto::common::v1::ErrorCode;
use parlance_proto::slot::SlotRange;
use parlance_proto::store::v1::{Command, TestCommand};

use super::*;
use fixture::*;

#[test]
fn seq_counts_without_gaps_and_a_repeated_send_returns_the_first_result() {
    let mut replica = Replica::new();
    let outcome = replica.one(1000, send("alice", "a1", "one"));
    assert_eq!(outcome, sent(1, 1000, false));
    let outcome = replica.one(2000, send("bob", "a1", "same id, other sender"));
    assert_eq!(outcome, sent(2, 2000, false));
    let outcome = replica.one(3000, send("alice", "a1", "one"));
    assert_eq!(outcome, sent(1, 1000, true));
    let outcome = replica.one(3000, send("alice", "a1", "other"));
    assert_eq!(code(outcome), ErrorCode::Conflict);
    let outcome = replica.one(3000, send("carol", "c1", "not a member"));
    assert_eq!(code(outcome), ErrorCode::PermissionDenied);
    let outcome = replica.one(3000, send("alice", "a2", "two"));
    assert_eq!(outcome, sent(3, 3000, false));
    let effects = replica.effects.0.lock();
    let numbers: Vec<u64> = effects.0.iter().map(|e| e.number).collect();
    assert_eq!(
        numbers,
        [1, 2, 3],
        "one effect for each stored message, none for repeats and refusals"
    );
}

#[test]
fn messages_of_one_command_are_stored_in_order_and_a_repeat_inside_one_write_is_seen() {
    let mut replica = Replica::new();
    let messages = || vec![message("a1", "x"), message("a1", "x"), message("a2", "y")];
    let send = || batch(1, [send_to(CHAT, "alice", messages())], 0);
    let outcomes = replica.apply(&[send(), send()]);
    let expected = |all: [(u64, bool); 3]| {
        CommandOutcome::Sent(all.map(|(seq, duplicate)| stored(seq, 1, duplicate)).into())
    };
    assert_eq!(
        outcomes,
        [
            expected([(1, false), (1, true), (2, false)]),
            expected([(1, true), (1, true), (2, true)])
        ]
    );
}

const DAY_MS: u64 = 86_400_000;

/// A batch of a leader that waited so long since the one before.
fn later(elapsed_ms: u64, command: command::Body) -> ShardBatch {
    ShardBatch {
        elapsed_ms,
        ..batch(0, [command], 0)
    }
}

#[test]
fn repeats_are_known_for_at_least_a_day_and_then_forgotten() {
    let mut replica = Replica::new();
    let mut apply = |batch| replica.apply(&[batch]).remove(0);
    let (first, again) = (sent(1, 0, false), sent(1, 0, true));
    // The last moment of a day.
    let outcome = apply(later(DAY_MS - 1, send("alice", "a1", "x")));
    assert_eq!(outcome, first);
    assert_eq!(apply(later(DAY_MS, send("alice", "a1", "x"))), again);
    let outcome = apply(later(DAY_MS, send("alice", "a1", "x")));
    assert_eq!(outcome, sent(2, 0, false));
    let old = rows_between(&replica, Table::Dedup, key::dedup_day(0, SlotRange::ALL));
    assert_eq!(old, 0, "rows of old days are removed");
}

#[test]
fn no_clock_makes_a_shard_forget_what_it_stored() {
    let mut replica = Replica::new();
    replica.one(1_000, send("alice", "a1", "x"));
    // The next leader's clock is years ahead, and what it measured since its last batch makes no sense.
    let years = 40 * 366 * DAY_MS as i64;
    let outcome = replica.one(years, send("alice", "a1", "x"));
    assert_eq!(outcome, sent(1, 1_000, true));
    let outcome = replica.apply(&[later(u64::MAX, send("alice", "a1", "x"))]);
    assert_eq!(outcome, [sent(1, 1_000, true)]);
}

#[test]
fn time_never_goes_back() {
    let mut replica = Replica::new();
    replica.one(5000, send("alice", "a1", "x"));
    let outcome = replica.one(4000, send("alice", "a2", "x"));
    assert_eq!(outcome, sent(2, 5000, false));
}

#[test]
fn unread_counts_are_the_others_messages_behind_the_position_whatever_is_in_memory() {
    let mut replica = Replica::new();
    let outcome = replica.one(0, read("bob", 1));
    assert_eq!(code(outcome), ErrorCode::NotFound);
    // More than what is between two writes of the conversation's row.
    let senders: Vec<&str> = (0..41u32)
        .map(|n| if n % 5 < 3 { "alice" } else { "bob" })
        .collect();
    for (n, sender) in senders.iter().enumerate() {
        replica.one(1, send(sender, &format!("m{n}"), "x"));
    }
    let mut restored = false;
    for (user, other) in [("bob", "alice"), ("alice", "bob")] {
        let mut furthest = 0;
        for seq in [1, 3, 2, 6, 17, 33, 40, 99] {
            furthest = seq.min(41).max(furthest);
            let recount = senders
                .iter()
                .enumerate()
                .filter(|(n, s)| **s == other && *n as u64 + 1 > furthest)
                .count();
            let expected = CommandOutcome::Read {
                read_seq: furthest,
                unread: recount as u64,
            };
            let outcome = replica.one(1, read(user, seq));
            assert_eq!(outcome, expected, "{user} read {seq}");
            restored = !restored;
            if restored {
                replica.machine.restored().unwrap();
            }
        }
    }
    let outcome = replica.one(0, read("carol", 1));
    assert_eq!(code(outcome), ErrorCode::PermissionDenied);
}

#[test]
fn the_same_batches_make_the_same_rows_however_they_are_grouped() {
    let batches: Vec<ShardBatch> = (0..50)
        .map(|n| {
            let commands = [
                send("alice", &format!("a{}", n % 40), "x"),
                send("bob", &format!("b{n}"), "y"),
                read("alice", n),
                touch("alice", CHAT),
                close("alice", n / 3),
            ];
            ShardBatch {
                elapsed_ms: n * DAY_MS / 40,
                ..batch(1_000 * n as i64, commands, n)
            }
        })
        .collect();
    let (mut one, mut other) = (Replica::new(), Replica::new());
    let mut outcomes = Vec::new();
    for batch in &batches {
        outcomes.extend(one.apply(std::slice::from_ref(batch)));
        if batch.time_ms % 3_000 == 0 {
            one.machine.restored().unwrap(); // what is in memory changes nothing
        }
    }
    let grouped: Vec<CommandOutcome> = batches
        .chunks(7)
        .flat_map(|chunk| other.apply(chunk))
        .collect();
    assert_eq!(outcomes, grouped);
    assert_eq!(one.rows(), other.rows());
    assert!(one.rows().len() > 100);
}

#[test]
fn an_entry_that_cannot_be_decoded_stops_the_replica() {
    let refused = apply_bytes(&[0xff; 3]);
    assert!(matches!(refused, Err(StoreError::Damaged { .. })));
}

#[test]
fn what_a_newer_program_proposed_stops_the_replica() {
    let level = ShardBatch {
        level: TEST_FEATURE_LEVEL,
        ..ShardBatch::default()
    };
    // A command whose field this build does not know decodes to none.
    let unknown = ShardBatch {
        commands: vec![Command { body: None }],
        ..ShardBatch::default()
    };
    let test = batch(0, [command::Body::Test(TestCommand {})], 0);
    for batch in [level, unknown, test] {
        let refused = apply_bytes(&batch.encode_to_vec());
        assert!(
            matches!(refused, Err(StoreError::NeedsNewerVersion { level }) if level == TEST_FEATURE_LEVEL),
            "{batch:?}"
        );
    }
}

fn apply_bytes(payload: &[u8]) -> Result<Vec<Outcome>, StoreError> {
    let mut replica = Replica::new();
    let entry = CommittedEntry {
        index: 2,
        term: 1,
        payload: Some(payload.to_vec().into()),
        ..CommittedEntry::default()
    };
    replica.machine.apply(&[entry], &mut WriteBatch::default())
}
