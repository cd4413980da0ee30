//! What is to be delivered is kept until it is, and no longer.

use parlance_proto::store::v1::Consumer;

use super::super::outbox::TRIM_ITEMS;
use super::super::*;
use super::fixture::*;

#[test]
fn delivered_outbox_rows_are_removed_alike_however_batches_are_grouped() {
    let sends = |ids: std::ops::Range<u64>, relayed| {
        let commands = ids.map(|n| send("alice", &format!("m{n}"), "x"));
        batch(1, commands, relayed)
    };
    let batches = [
        sends(0..10, 0),
        sends(10..TRIM_ITEMS, 10),
        sends(TRIM_ITEMS..TRIM_ITEMS + 5, TRIM_ITEMS),
    ];
    let (mut one, mut other) = (Replica::new(), Replica::new());
    for batch in &batches {
        one.apply(std::slice::from_ref(batch));
    }
    other.apply(&batches);
    assert_eq!(one.rows(), other.rows());
}

#[test]
fn the_outbox_keeps_what_was_not_delivered_across_a_restart() {
    let mut replica = Replica::new();
    for n in 0..10_000u64 {
        let send = send("alice", &format!("m{n}"), "x");
        replica.apply(&[batch(1, [send], n.saturating_sub(100))]);
    }
    let state = shard_state(&*replica.store, SHARD).unwrap();
    assert_eq!(state.outbox_last, 10_000);
    assert_eq!(watermark(&state, Consumer::Relay), 9_899);
    let left = undelivered(&*replica.store, SHARD, 9_899, usize::MAX).unwrap();
    let numbers: Vec<u64> = left.into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (9_900..=10_000).collect::<Vec<_>>());
    let range = (key::outbox(SHARD, 0), key::outbox(SHARD, u64::MAX));
    let rows = rows_between(&replica, Table::Outbox, range);
    assert!(rows < 2 * TRIM_ITEMS as usize, "delivered rows are removed");
    replica.machine.restored().unwrap();
    let outcome = replica.one(2, send("alice", "new", "x"));
    assert_eq!(outcome, sent(10_001, 2, false));
}
