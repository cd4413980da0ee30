//! The state store on real files.

use parlance_proto::ids::{AppId, ConversationId, ShardId};
use parlance_proto::slot::{Slot, SlotRange};

use super::*;
use crate::store::key::{self, ConversationKeys};
use crate::store::{RowFileOptions, RowFiles};

mod beside;

/// A shard that owns the one slot of its number.
fn ranges(shard: u32) -> [RowRange; 2] {
    let range = |table, (from, to)| RowRange { table, from, to };
    let slots = SlotRange::new(shard, shard).unwrap();
    [
        range(Table::Events, key::slot_range(slots)),
        range(Table::Meta, key::shard_range(ShardId(shard))),
    ]
}

fn event(shard: u32, seq: u64) -> Vec<u8> {
    let (app, conversation) = (AppId::new("demo"), ConversationId::parse("d:1:a:b"));
    let slot = Slot::new(shard).unwrap();
    ConversationKeys::new(slot, &app.unwrap(), &conversation.unwrap()).event(seq)
}

fn applied(shard: u32) -> Vec<u8> {
    key::applied(ShardId(shard))
}

fn rows(store: &RocksStore, shard: u32) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for RowRange { table, from, to } in ranges(shard) {
        store
            .scan(table, &from, &to, Order::Ascending, &mut |k, v| {
                all.push((table, k.to_vec(), v.to_vec()));
                true
            })
            .unwrap();
    }
    all
}

fn filled(dir: &Path) -> RocksStore {
    let store = RocksStore::open(dir, Existing::No).unwrap();
    let mut batch = WriteBatch::default();
    for shard in [6, 7, 8] {
        for seq in 1..=100 {
            batch.put(Table::Events, event(shard, seq), vec![seq as u8; 50]);
        }
        batch.put(Table::Meta, applied(shard), vec![shard as u8]);
    }
    store.write(&batch).unwrap();
    store
}

/// All rows of a shard, from a view, in files.
fn exported(store: &RocksStore, shard: u32, dir: &Path) -> Vec<RowFile> {
    fs::create_dir(dir).unwrap();
    let options = RowFileOptions::default();
    let mut files = RowFiles::new(&options, dir);
    let export = &mut |view: &dyn StoreView| {
        for range in &ranges(shard) {
            view.scan(range, &mut |key, value| {
                files.put(range.table, key, value).unwrap();
                true
            })?;
        }
        Ok(())
    };
    store.view(export).unwrap();
    files.finish().unwrap()
}

#[test]
fn files_of_a_view_carry_one_shard_and_replace_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let source = filled(&dir.path().join("a"));
    let files = exported(&source, 7, &dir.path().join("x"));
    assert_eq!(files.len(), 2, "empty tables have no file");

    let target = RocksStore::open(&dir.path().join("b"), Existing::No).unwrap();
    let mut batch = WriteBatch::default();
    batch.put(Table::Events, event(7, 1_000), vec![1]);
    batch.put(Table::Events, event(8, 1), vec![1]);
    target.write(&batch).unwrap();
    for _ in 0..2 {
        target
            .import(&ranges(7), &dir.path().join("x"), &files)
            .unwrap();
        assert_eq!(rows(&target, 7), rows(&source, 7));
    }
    assert_eq!(rows(&target, 8).len(), 1, "other shards are left alone");
}

#[test]
fn a_view_shows_nothing_that_is_written_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let look = &mut |view: &dyn StoreView| {
        let mut batch = WriteBatch::default();
        batch.put(Table::Meta, applied(7), vec![70]);
        batch.put(Table::Events, event(7, 101), vec![]);
        store.write(&batch)?;
        let applied = view.get(Table::Meta, &applied(7))?;
        assert_eq!(applied.as_deref(), Some(&[7u8][..]));
        let mut count = 0;
        for range in &ranges(7) {
            view.scan(range, &mut |_, _| {
                count += 1;
                true
            })?;
        }
        assert_eq!(count, 101);
        Ok(())
    };
    store.view(look).unwrap();
}

#[test]
fn scans_go_both_ways_inside_their_range() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let (from, to) = (event(7, 10), event(7, 13));
    for (order, expected) in [
        (Order::Ascending, [10, 11, 12]),
        (Order::Descending, [12, 11, 10]),
    ] {
        let mut seqs = Vec::new();
        store
            .scan(Table::Events, &from, &to, order, &mut |k, _| {
                seqs.extend(key::event_seq(k));
                true
            })
            .unwrap();
        assert_eq!(seqs, expected);
    }
}

#[test]
fn only_flushed_rows_count_as_durable_and_are_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let durable = |key: Vec<u8>| store.get_durable(Table::Meta, &key).unwrap();
    assert_eq!(durable(applied(6)), None);
    store.flush().unwrap();
    assert_eq!(durable(applied(6)).as_deref(), Some(&[6u8][..]));
    let mut batch = WriteBatch::default();
    batch.put(Table::Meta, applied(6), vec![60]);
    store.write(&batch).unwrap();
    assert_eq!(durable(applied(6)).as_deref(), Some(&[6u8][..]));
    store.flush().unwrap();
    let before = rows(&store, 6);
    drop(store);
    assert_eq!(
        rows(
            &RocksStore::open(dir.path(), Existing::Required).unwrap(),
            6
        ),
        before
    );
}
