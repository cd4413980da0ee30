//! Logs and received snapshots that a disk or a power cut has damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::executor::block_on;
use parlance_proto::raft::v1::{SnapshotChunk, SnapshotHeader};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::fixture::{ONE, copy_dir, node_ids, row_key, row_ranges};
use crate::machine::state_without_log;
use crate::raft::RaftError;
use crate::raft::group_commit::{GroupCommit, LogEngine, LogWrite};
use crate::raft::log_db::TornLog;
use crate::raft::shard_rows::ShardRows;
use crate::raft::snapshot_folder::{ReceivedRows, SnapshotFolder};
use crate::raft::{snapshot_receive, snapshot_send};
use crate::store::faulty::FaultyStore;
use crate::store::{StateStore, Table, WriteBatch, key};

fn write(engine: &GroupCommit, write: LogWrite) {
    let (sender, receiver) = oneshot::channel();
    let done = Box::new(move |result| drop(sender.send(result)));
    block_on(engine.submit(ONE, write, done)).unwrap();
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
    engine.read(ONE, 0, u64::MAX, usize::MAX).unwrap().len()
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

/// Rows of shard 1 with the applied id that belongs to them.
fn filled(dir: &Path) -> Arc<FaultyStore> {
    let store = Arc::new(FaultyStore::open(&dir.join("state")));
    let mut batch = WriteBatch::default();
    (0..1000)
        .for_each(|index| batch.put(Table::Events, row_key(ONE, index), vec![index as u8; 64]));
    let applied = state_without_log(&node_ids([1])).encode_to_vec();
    batch.put(Table::Meta, key::applied(ONE), applied);
    store.write(&batch).unwrap();
    store
}

async fn sent(store: &Arc<FaultyStore>) -> (SnapshotHeader, Vec<SnapshotChunk>) {
    let rows = ShardRows::new(ONE, store.clone(), row_ranges(ONE));
    let (header, mut receiver) = snapshot_send::read(rows).await.unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = receiver.recv().await {
        chunks.push(chunk);
    }
    (header, chunks)
}

async fn received(
    folder: &SnapshotFolder,
    (header, chunks): (SnapshotHeader, Vec<SnapshotChunk>),
) -> std::io::Result<ReceivedRows> {
    let (sender, receiver) = mpsc::channel(chunks.len().max(1));
    chunks
        .into_iter()
        .for_each(|chunk| sender.try_send(chunk).unwrap());
    drop(sender);
    let folder = folder.clone();
    let receive = move || snapshot_receive::receive(&folder, &header, receiver);
    tokio::task::spawn_blocking(receive).await.unwrap()
}

fn entries_of(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[tokio::test]
async fn rows_that_are_not_whole_or_out_of_place_are_not_taken_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let target = dir.path().join("b");
    let folder = SnapshotFolder::open(&target, ONE).unwrap();
    let (header, chunks) = sent(&store).await;
    let damages: [fn(&mut SnapshotHeader, &mut Vec<SnapshotChunk>); 7] = [
        |_, chunks| drop(chunks.pop()),
        |_, chunks| drop(chunks[0].rows.pop()),
        |_, chunks| chunks[0].rows.swap(0, 1),
        |_, chunks| chunks[0].rows[0].key = vec![0xff; 8].into(),
        |_, chunks| chunks[0].range = 99,
        |header, _| header.format += 1,
        |header, _| drop(header.ranges.pop()),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let (mut header, mut chunks) = (header.clone(), chunks.clone());
        damage(&mut header, &mut chunks);
        assert!(
            received(&folder, (header, chunks)).await.is_err(),
            "{number}"
        );
        assert_eq!(entries_of(&target.join("snapshots/1")), 0, "{number}");
    }
    drop(received(&folder, (header, chunks)).await.unwrap());
    assert_eq!(
        entries_of(&target.join("snapshots/1")),
        0,
        "dropped, it is gone"
    );
}

#[tokio::test]
async fn an_installation_that_was_cut_short_is_done_again_unless_its_files_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let source = filled(dir.path());
    let target = dir.path().join("b");
    let store = Arc::new(FaultyStore::open(&target.join("state")));
    let folder = SnapshotFolder::open(&target, ONE).unwrap();
    let rows = received(&folder, sent(&source).await).await.unwrap();
    // The crash: the marker is there, the import is not.
    store.imports_fail.store(1, Ordering::SeqCst);
    let stop = CancellationToken::new();
    stop.cancel();
    let old = row_ranges(ONE);
    let cut_short = folder.install(store.clone(), rows, &old, &stop).await;
    assert!(cut_short.is_err());

    let files = target.join("snapshots/1/received-0");
    let marker = target.join("snapshots/1/INSTALLING");
    for file in [largest(&files), marker] {
        let whole = std::fs::read(&file).unwrap();
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        std::fs::write(&file, damaged).unwrap();
        let refused = folder.finish_install(&*store).unwrap_err().to_string();
        assert!(refused.contains("cannot be finished"), "{refused}");
        std::fs::write(&file, whole).unwrap();
    }

    assert!(folder.finish_install(&*store).unwrap());
    assert!(
        store
            .get(Table::Events, &row_key(ONE, 7))
            .unwrap()
            .is_some()
    );
    assert_eq!(entries_of(&target.join("snapshots/1")), 0, "tidied up");
    assert!(!folder.finish_install(&*store).unwrap(), "once");
}

fn largest(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path());
    files
        .filter(|path| path.is_file())
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap()
}
