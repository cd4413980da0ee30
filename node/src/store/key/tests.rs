//! The bytes of each key, their order, and what a range holds.

use parlance_proto::ids::{AppId, ConversationId, ShardId, UserId};
use parlance_proto::slot::{Slot, SlotRange};
use proptest::prelude::*;

use super::*;

fn app_id() -> AppId {
    AppId::new("demo").unwrap()
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn slot(number: u32) -> Slot {
    Slot::new(number).unwrap()
}

/// A line here is on every disk: add lines, never edit one.
#[test]
fn keys_have_the_bytes_that_they_always_had() {
    let conversation = ConversationId::parse("d:1:a:b").unwrap();
    let keys = ConversationKeys::new(slot(258), &app_id(), &conversation);
    let list = ListKeys::new(slot(3), &app_id(), &user("a"));
    let (dedup_from, dedup_to) = dedup_day(20_000, SlotRange::new(1, 2).unwrap());
    let written: Vec<(&str, Vec<u8>)> = vec![
        ("event", keys.event(7)),
        ("conversation", keys.head().to_vec()),
        ("member", keys.member(&user("b"))),
        ("user", list.entry("d:1:a:b")),
        ("list", list.list()),
        ("touch", list.touch(7, "d:1:a:b")),
        ("dedup", dedup(20_000, slot(258), &[9; 16])),
        ("dedup day from", dedup_from),
        ("dedup day to", dedup_to),
        ("outbox", outbox(ShardId(5), 6)),
        ("applied", applied(ShardId(5))),
        ("shard", shard_state(ShardId(5))),
        ("map", cluster_map()),
        ("app", app(&app_id())),
        ("kick", kick(&app_id(), &user("a"))),
        ("invitation", invitation()),
    ];
    let lines: String = written
        .iter()
        .map(|(name, key)| format!("{name}: {}\n", hex::encode(key)))
        .collect();
    assert_eq!(lines, include_str!("golden.txt"));
}

#[test]
fn a_users_list_is_that_users_alone() {
    let list = ListKeys::new(slot(1), &app_id(), &user("al"));
    let (from, to) = list.behind("");
    let own = list.entry("d:2:al:bo");
    assert!(from <= own && own < to);
    assert_eq!(list.conversation(&own), Some("d:2:al:bo"));
    let (behind, _) = list.behind("d:2:al:bo");
    assert!(own < behind && behind < list.entry("d:2:al:bo1"));
    for other in ["a", "ala", "am", "b"] {
        let others = ListKeys::new(slot(1), &app_id(), &user(other));
        for key in [
            others.entry("d:1:x:y"),
            others.list(),
            others.touch(7, "d:1:x:y"),
        ] {
            assert!(key < from || key >= to, "{other:?}");
            let (from, to) = list.touches_behind(0, "");
            assert!(key < from || key >= to, "{other:?}");
        }
    }
    let (from, to) = list.touches_behind(7, "d:2:al:bo");
    for (generation, id, behind) in [
        (6, "d:2:al:zo", false),
        (7, "d:2:al:bo", false),
        (7, "d:2:al:bo1", true),
        (8, "d:2:al:a", true),
        (u64::MAX, "r:z", true),
    ] {
        let touch = list.touch(generation, id);
        assert_eq!(from <= touch && touch < to, behind, "{generation} {id}");
        assert_eq!(list.touched(&touch), Some((generation, id)));
    }
    assert!(list.list() >= list.behind("").1 && list.list() < list.touches_behind(0, "").0);
    let (apps_from, apps_to) = apps();
    let one = app(&app_id());
    assert!(apps_from <= one && one < apps_to);
}

proptest! {
    #[test]
    fn byte_order_is_slot_order_then_seq_order(
        (a, b) in (0u32..16_384, 0u32..16_384),
        (first, second) in (any::<u64>(), any::<u64>()),
        id in "[a-z0-9:_-]{1,40}",
    ) {
        let conversation = ConversationId::parse(&format!("g:{id}")).unwrap();
        let keys = |number| ConversationKeys::new(slot(number), &app_id(), &conversation);
        prop_assert_eq!(keys(a).event(first).cmp(&keys(b).event(second)), (a, first).cmp(&(b, second)));
        prop_assert_eq!(event_seq(&keys(a).event(first)), Some(first));
        prop_assert_eq!(outbox_number(&outbox(ShardId(a), first)), Some(first));
    }

    #[test]
    fn a_range_holds_the_rows_of_its_slots_and_no_others(
        (a, b, other) in (0u32..16_384, 0u32..16_384, 0u32..16_384),
        day in 0u32..40_000,
        digest in any::<[u8; 16]>(),
        (one, two) in ("[a-z]{1,10}", "[a-z]{1,10}"),
    ) {
        let range = SlotRange::new(a.min(b), a.max(b)).unwrap();
        let inside = range.contains(slot(other));
        let within = |(from, to): (Vec<u8>, Vec<u8>), key: &[u8]| from.as_slice() <= key && key < to.as_slice();
        let group = ConversationId::parse(&format!("g:{one}")).unwrap();
        let keys = ConversationKeys::new(slot(other), &app_id(), &group);
        prop_assert_eq!(within(slot_range(range), &keys.event(1)), inside);
        prop_assert_eq!(within(slot_range(range), &keys.member(&user(&two))), inside);
        prop_assert_eq!(within(dedup_day(day, range), &dedup(day, slot(other), &digest)), inside);
        prop_assert!(!within(dedup_day(day, range), &dedup(day + 1, slot(other), &digest)));
        // One conversation's rows are together, and apart from every other's.
        let other_group = ConversationId::parse(&format!("g:{two}")).unwrap();
        let others = ConversationKeys::new(slot(other), &app_id(), &other_group);
        let own = (keys.event(0), keys.event(u64::MAX));
        prop_assert_eq!(within(own, &others.event(5)), one == two);
    }
}
