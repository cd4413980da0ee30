//! Logs and snapshots that a disk or a power cut has damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use tokio::sync::oneshot;

use super::fixture::{copy_dir, row_key};
use crate::raft::RaftError;
use crate::raft::group_commit::{GroupCommit, LogEngine, LogWrite};
use crate::raft::log_db::TornLog;
use crate::raft::snapshot::{SnapshotBuilder, SnapshotFolder};
use crate::store::manifest::Existing;
use crate::store::rocks::RocksStore;
use crate::store::{StateStore, Table, WriteSet};

fn write(engine: &GroupCommit, write: LogWrite) {
    let (sender, receiver) = oneshot::channel();
    let done = Box::new(move |result| drop(sender.send(result)));
    block_on(engine.submit(1, write, done)).unwrap();
    block_on(receiver).unwrap().unwrap();
}

/// A log of 100 entries in 100 synced batches, as a killed process leaves it: all of it in the write-ahead log.
fn killed_log(dir: &Path) -> PathBuf {
    let source = dir.join("source");
    let engine = GroupCommit::open(&source, TornLog::Refuse).unwrap();
    for index in 0..100 {
        write(
            &engine,
            LogWrite::Append(vec![(index, Bytes::from(vec![1; 500]))], None),
        );
    }
    let copy = dir.join("copy");
    copy_dir(&source, &copy);
    copy
}

fn wal(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path());
    let wals = files.filter(|path| path.extension().is_some_and(|e| e == "log"));
    wals.max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap()
}

fn entries(engine: &GroupCommit) -> usize {
    engine.read(1, 0, u64::MAX, usize::MAX).unwrap().len()
}

#[test]
fn a_killed_process_leaves_every_synced_entry() {
    let dir = tempfile::tempdir().unwrap();
    let copy = killed_log(dir.path());
    assert_eq!(
        entries(&GroupCommit::open(&copy, TornLog::Refuse).unwrap()),
        100
    );
}

#[test]
fn a_torn_end_opens() {
    let dir = tempfile::tempdir().unwrap();
    let copy = killed_log(dir.path());
    let wal = wal(&copy);
    let length = std::fs::metadata(&wal).unwrap().len();
    std::fs::File::options()
        .write(true)
        .open(&wal)
        .unwrap()
        .set_len(length - 100)
        .unwrap();
    assert_eq!(
        entries(&GroupCommit::open(&copy, TornLog::Refuse).unwrap()),
        99
    );
}

#[test]
fn a_flipped_bit_in_the_middle_is_refused_and_recovered_only_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let copy = killed_log(dir.path());
    let wal = wal(&copy);
    let mut bytes = std::fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&wal, bytes).unwrap();
    let Err(error) = GroupCommit::open(&copy, TornLog::Refuse) else {
        panic!("a damaged log was opened")
    };
    assert!(matches!(error, RaftError::LogDamaged { .. }));
    let text = error.to_string();
    assert!(
        text.contains("parlance node replace") && text.contains("recover_torn_log"),
        "{text}"
    );
    let left = entries(&GroupCommit::open(&copy, TornLog::Recover).unwrap());
    assert!((40..60).contains(&left), "{left} entries");
}

fn filled(dir: &Path) -> (Arc<dyn StateStore>, SnapshotFolder, SnapshotBuilder) {
    let store: Arc<dyn StateStore> =
        Arc::new(RocksStore::open(&dir.join("state"), Existing::No).unwrap());
    let mut set = WriteSet::default();
    (0..1000).for_each(|index| set.put(Table::Events, row_key(1, index), vec![index as u8; 64]));
    store.write(set).unwrap();
    let folder = SnapshotFolder::open(dir, 1).unwrap();
    let builder = SnapshotBuilder {
        group: 1,
        store: store.clone(),
        folder: folder.clone(),
    };
    (store, folder, builder)
}

#[tokio::test]
async fn cut_or_changed_snapshots_are_not_used() {
    use openraft::RaftSnapshotBuilder;
    let dir = tempfile::tempdir().unwrap();
    let (store, folder, mut builder) = filled(dir.path());
    for damage in ["cut manifest", "cut file", "changed file"] {
        let files = builder.build_snapshot().await.unwrap().snapshot;
        let table = files.dir.join("events.sst");
        match damage {
            "cut manifest" => std::fs::write(files.dir.join("MANIFEST"), [1, 2, 3]).unwrap(),
            "cut file" => std::fs::File::options()
                .write(true)
                .open(&table)
                .unwrap()
                .set_len(100)
                .unwrap(),
            _ => {
                let mut bytes = std::fs::read(&table).unwrap();
                bytes[50] ^= 1;
                std::fs::write(&table, bytes).unwrap();
            }
        }
        if damage == "changed file" {
            assert!(folder.install(&*store, &files).is_err(), "never applied");
        } else {
            assert!(folder.newest().unwrap().is_none(), "{damage}: removed");
        }
        assert!(store.get(Table::Events, &row_key(1, 7)).unwrap().is_some());
    }
}

#[tokio::test]
async fn an_installation_that_was_cut_short_is_done_again() {
    use openraft::RaftSnapshotBuilder;
    let dir = tempfile::tempdir().unwrap();
    let (_store, _, mut builder) = filled(&dir.path().join("a"));
    let files = builder.build_snapshot().await.unwrap().snapshot;

    let target = dir.path().join("b");
    let store: Arc<dyn StateStore> =
        Arc::new(RocksStore::open(&target.join("state"), Existing::No).unwrap());
    let folder = SnapshotFolder::open(&target, 1).unwrap();
    let adopted = folder.adopt(files).unwrap();
    // The crash: the marker is there, the import is not.
    let name = adopted.dir.file_name().unwrap().as_encoded_bytes().to_vec();
    let marker = [&crc32c::crc32c(&name).to_be_bytes()[..], &name].concat();
    std::fs::write(target.join("snapshots/1/INSTALLING"), &marker).unwrap();
    assert!(folder.finish_install(&*store).unwrap());
    assert!(store.get(Table::Events, &row_key(1, 7)).unwrap().is_some());
    assert!(!folder.finish_install(&*store).unwrap(), "once");

    std::fs::write(target.join("snapshots/1/INSTALLING"), &marker[..3]).unwrap();
    assert!(
        folder.finish_install(&*store).is_err(),
        "a damaged marker is not guessed at"
    );
}
