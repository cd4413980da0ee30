//! Readers beside writes, flushes, compactions and openings of one store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, scope};

use super::*;

const SHARDS: [u32; 3] = [6, 7, 8];
const EVENTS: u64 = 40;
/// Openings of the store, and what is written between two: enough files for compactions.
const OPENINGS: u64 = 3;
const WRITES: u64 = 60;
const WRITES_A_FLUSH: u64 = 3;

/// In the place of all rows of a shard come as many of another generation, at once.
fn write(store: &RocksStore, shard: u32, generation: u64) {
    let mut batch = WriteBatch::default();
    for RowRange { table, from, to } in ranges(shard) {
        batch.delete_range(table, from, to);
    }
    let value = generation.to_be_bytes().repeat(20);
    // A generation has seqs of its own: what went must stay away, and is no mere older value.
    for seq in 0..EVENTS {
        batch.put(
            Table::Events,
            event(shard, generation * EVENTS + seq),
            value.clone(),
        );
    }
    batch.put(Table::Meta, applied(shard), value);
    store.write(&batch).unwrap();
}

fn is_one_generation(values: &[Vec<u8>], rows: u64) {
    assert_eq!(values.len() as u64, rows);
    assert!(values.windows(2).all(|two| two[0] == two[1]));
}

/// All at once: to the end of the range, from its end, from a view; by key, in memory or on disk.
fn read(store: &RocksStore, shard: u32) {
    let [events, _] = ranges(shard);
    for order in [Order::Ascending, Order::Descending] {
        let mut values = Vec::new();
        let visit = &mut |_: &[u8], value: &[u8]| {
            values.push(value.to_vec());
            true
        };
        store
            .scan(events.table, &events.from, &events.to, order, visit)
            .unwrap();
        is_one_generation(&values, EVENTS);
    }
    let mut values = Vec::new();
    store
        .view(&mut |view| {
            view.scan(&events, &mut |_, value| {
                values.push(value.to_vec());
                true
            })?;
            values.extend(view.get(Table::Meta, &applied(shard))?.map(Vec::from));
            Ok(())
        })
        .unwrap();
    is_one_generation(&values, EVENTS + 1);
    let keys = SHARDS.map(applied);
    let rows = store.get_many(Table::Meta, &keys).unwrap();
    assert!(rows.iter().all(Option::is_some));
    store.get_durable(Table::Meta, &applied(shard)).unwrap();
    store.figures();
}

fn reader<'a>(scope: &'a Scope<'a, '_>, store: &'a RocksStore, ends: &'a AtomicBool, shard: u32) {
    scope.spawn(move || {
        while !ends.load(Ordering::Relaxed) {
            read(store, shard);
        }
    });
}

#[test]
fn readers_see_one_generation_whole_beside_writes_flushes_and_compactions() {
    let dir = tempfile::tempdir().unwrap();
    for opening in 0..OPENINGS {
        let existing = if opening == 0 {
            Existing::No
        } else {
            Existing::Required
        };
        let store = RocksStore::open(&dir.path().join("a"), existing).unwrap();
        let first = opening * WRITES;
        for shard in SHARDS {
            write(&store, shard, first);
        }
        let ends = AtomicBool::new(false);
        scope(|scope| {
            for shard in SHARDS {
                reader(scope, &store, &ends, shard);
            }
            for generation in first + 1..first + WRITES {
                for shard in SHARDS {
                    write(&store, shard, generation);
                }
                if generation % WRITES_A_FLUSH == 0 {
                    store.flush().unwrap();
                }
            }
            ends.store(true, Ordering::Relaxed);
        });
        store.flush().unwrap();
    }
}
