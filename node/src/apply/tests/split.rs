//! What a shard owns, and what of it a split gives to a child.

use parlance_proto::common::v1::ErrorCode;
use parlance_proto::ids::NodeId;
use parlance_proto::slot::SlotRange;
use parlance_proto::store::v1::OutboxItem;

use super::super::*;
use super::fixture::*;
use crate::machine::Replicas;

/// The slot of the chat, from which on a split can take it away.
fn slot_of_chat() -> u32 {
    let place = place::Place::of("demo", CHAT).unwrap();
    place.slot.number().into()
}

#[test]
fn a_shard_that_owns_nothing_yet_stores_nothing_and_its_founding_counts_once() {
    let mut replica = Replica::empty();
    let outcome = replica.one(1, send("alice", "a1", "x"));
    assert_eq!(outcome, CommandOutcome::Moved);
    replica.one(1, found(SlotRange::ALL));
    replica.one(1, found(SlotRange::new(0, 0).unwrap()));
    let ranges = replica.ranges();
    let last = ranges.last().unwrap();
    assert_eq!((last.slots, last.epoch), (Some(SlotRange::ALL), 1));
    let outcome = replica.one(1, send("alice", "a1", "x"));
    assert_eq!(outcome, sent(1, 1, false));
}

#[test]
fn the_child_of_a_split_goes_on_where_its_parent_stopped() {
    let mut parent = Replica::new();
    for n in 0..20u64 {
        parent.one(1, send("alice", &format!("m{n}"), "x"));
    }
    parent.one(1, read("bob", 18));
    // The split comes in one write with sends before and behind it.
    let first_slot = slot_of_chat();
    let outcomes = parent.apply(&[batch(
        2,
        [
            send("alice", "before", "x"),
            split(first_slot, 2),
            send("alice", "behind", "x"),
            read("bob", 19),
        ],
        15,
    )]);
    assert_eq!(
        outcomes,
        [
            sent(21, 2, false),
            CommandOutcome::Split,
            CommandOutcome::Moved,
            CommandOutcome::Moved
        ]
    );
    let owned = parent.ranges().pop().unwrap();
    assert_eq!(owned.slots, SlotRange::new(0, first_slot - 1));
    assert_eq!((owned.epoch, owned.splits.len()), (2, 1));

    let mut child = parent.child();
    let owned = child.ranges().pop().unwrap();
    assert_eq!(owned.slots, SlotRange::new(first_slot, 16_383));
    assert_eq!(owned.epoch, 2);
    let state = shard_state(&*child.store, CHILD).unwrap();
    let items = undelivered(&*child.store, CHILD, 0, usize::MAX).unwrap();
    assert_eq!(
        items.len(),
        7,
        "what the parent had not delivered: six messages and a position"
    );
    assert_eq!(state.outbox_last, 7);
    let outcome = child.one(3, send("alice", "m3", "x"));
    assert_eq!(outcome, sent(4, 1, true), "the parent's message is known");
    let outcome = child.one(3, send("alice", "behind", "x"));
    assert_eq!(outcome, sent(22, 3, false));
    let outcome = child.one(3, read("bob", 19));
    let expected = CommandOutcome::Read {
        read_seq: 19,
        unread: 3,
    };
    assert_eq!(outcome, expected);
}

#[test]
fn a_split_is_done_once_and_refused_when_it_cannot_be() {
    let mut parent = Replica::new();
    let first_slot = slot_of_chat();
    for (first_slot, epoch) in [(0, 2), (16_384, 2), (first_slot, 1), (first_slot, 3)] {
        let outcome = parent.one(1, split(first_slot, epoch));
        assert_eq!(code(outcome), ErrorCode::PreconditionFailed);
    }
    assert_eq!(parent.one(1, split(first_slot, 2)), CommandOutcome::Split);
    let before = parent.rows();
    assert_eq!(parent.one(1, split(first_slot, 2)), CommandOutcome::Split);
    assert_eq!(parent.rows(), before, "asked again it is the same split");
    let outcome = parent.one(1, split(first_slot - 1, 3));
    assert_eq!(
        code(outcome),
        ErrorCode::PreconditionFailed,
        "its last slot is not the shard's last one any more"
    );

    let mut moving = Replica::new();
    let learners = Replicas {
        learners: [NodeId(4)].into(),
        ..Replicas::default()
    };
    let entry = CommittedEntry {
        index: 9,
        payload: Some(batch(1, [split(first_slot, 2)], 0).encode_to_vec().into()),
        replicas: Arc::new(learners),
        ..CommittedEntry::default()
    };
    let outcomes = moving.machine.apply(&[entry], &mut WriteBatch::default());
    let Outcome::Shard(mut outcomes) = outcomes.unwrap().remove(0) else {
        panic!("no outcomes")
    };
    assert_eq!(code(outcomes.remove(0)), ErrorCode::PreconditionFailed);
}

/// A conversation with its slot below the chat's.
fn chat_below() -> String {
    let ids = (0..).map(|n| format!("d:5:alice:carol{n}"));
    let slot = |id: &str| u32::from(place::Place::of("demo", id).unwrap().slot.number());
    let mut below = ids.filter(|id| slot(id) < slot_of_chat());
    below.next().unwrap()
}

fn handed_over(parent: &Replica) -> Vec<OutboxItem> {
    let items = undelivered(&*parent.store, CHILD, 0, usize::MAX).unwrap();
    let (numbers, items): (Vec<u64>, Vec<_>) = items.into_iter().unzip();
    assert_eq!(numbers, (1..=items.len() as u64).collect::<Vec<_>>());
    items
}

#[test]
fn the_child_gets_the_same_undelivered_items_however_entries_are_grouped() {
    let stays = chat_below();
    let sends = |ids: std::ops::Range<u64>, relayed| {
        let commands = ids.flat_map(|n| {
            let id = format!("m{n}");
            [
                send("alice", &id, "x"),
                send_to(&stays, "alice", vec![message(&id, "y")]),
            ]
        });
        batch(1, commands, relayed)
    };
    // Thirty items, of which eight are done when the split comes; half of the others move.
    let batches = [
        sends(0..10, 0),
        sends(10..15, 6),
        batch(1, [split(slot_of_chat(), 2)], 8),
        sends(15..20, 9),
    ];
    let mut replicas: Vec<Replica> = [1, 2, 3, 4]
        .into_iter()
        .map(|entries| {
            let mut replica = Replica::new();
            for chunk in batches.chunks(entries) {
                replica.apply(chunk);
            }
            replica
        })
        .collect();
    let first = replicas.remove(0);
    let moved = handed_over(&first);
    assert_eq!(moved.len(), 11);
    assert!(moved.iter().all(|item| item.conversation_id == CHAT));
    for other in &replicas {
        assert_eq!(handed_over(other), moved);
        assert_eq!(other.rows(), first.rows());
        assert_eq!(other.child().rows(), first.child().rows());
    }
}

#[test]
fn a_split_waits_until_most_of_what_is_under_way_is_delivered() {
    let mut parent = Replica::new();
    let messages = |from: u64| (from..from + 8_200).map(|n| message(&format!("m{n}"), "x"));
    for from in [0, 10_000] {
        let send = send_to(CHAT, "alice", messages(from).collect());
        parent.apply(&[batch(1, [send], 0)]);
    }
    let outcome = parent.one(1, split(slot_of_chat(), 2));
    assert_eq!(code(outcome), ErrorCode::Overloaded);
    let outcomes = parent.apply(&[batch(1, [split(slot_of_chat(), 2)], 16_390)]);
    assert_eq!(outcomes, [CommandOutcome::Split]);
    assert_eq!(handed_over(&parent).len(), 10);
}
