//! The Raft library's own tests of a log store and a state machine, and ours of what it leaves out.

use std::sync::{Arc, Weak};

use openraft::StorageError;
use openraft::storage::RaftLogStorage;
use openraft::testing::log::{StoreBuilder, Suite};
use parlance_proto::ids::{NodeId, ShardId};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fixture::{Recorder, row_ranges};
use crate::raft::feed::Feed;
use crate::raft::group_commit::GroupCommit;
use crate::raft::log_db::TornLog;
use crate::raft::log_store::LogStore;
use crate::raft::log_tail::TailBudget;
use crate::raft::purge_gate::PurgeGate;
use crate::raft::shard_rows::ShardRows;
use crate::raft::snapshot_folder::SnapshotFolder;
use crate::raft::state_machine::{Ends, ReplicaState, SnapshotByBytes};
use crate::raft::types::{TypeConfig, Vote};
use crate::store::manifest::Existing;
use crate::store::rocks::RocksStore;

const SHARD: ShardId = ShardId(7);

/// The library's tests purge what they never applied.
struct Open;

impl PurgeGate for Open {
    fn make_durable(&self, _index: u64) -> futures::future::BoxFuture<'_, std::io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

fn log(dir: &std::path::Path) -> LogStore {
    let engine = Arc::new(GroupCommit::open(&dir.join("log"), TornLog::Refuse).unwrap());
    LogStore::open(SHARD, engine, Box::new(Open), TailBudget::new(200)).unwrap()
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, ReplicaState, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, ReplicaState), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(RocksStore::open(&dir.path().join("state"), Existing::No).unwrap());
        let machine = Box::new(Recorder { shard: SHARD });
        let folder = SnapshotFolder::open(dir.path(), SHARD).unwrap();
        let by_bytes = Arc::new(SnapshotByBytes::new(u64::MAX));
        let feed = Feed::new(NodeId(1), ShardRows::new(SHARD, store, row_ranges(SHARD)));
        let stop = CancellationToken::new();
        let ends = Ends {
            stop,
            process: watch::Sender::default(),
            waiting: Weak::new(),
        };
        let ended = CancellationToken::new().drop_guard();
        let state = ReplicaState::open(feed, machine, folder, by_bytes, ends, ended).unwrap();
        let log = log(dir.path());
        Ok((dir, log, state))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_librarys_store_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}

#[tokio::test]
async fn votes_and_entries_are_there_after_opening_again() {
    use openraft::entry::RaftEntry;
    use openraft::storage::RaftLogStorageExt;
    use openraft::vote::RaftLeaderId;
    let dir = tempfile::tempdir().unwrap();
    let vote = Vote::new_committed(5, NodeId(3));
    let at = |index| openraft::LogId::new(vote.leader_id.to_committed(), index);
    let entry = |index| crate::raft::types::Entry::new_blank(at(index));
    let mut before = log(dir.path());
    before.save_vote(&vote).await.unwrap();
    before.blocking_append((0..100).map(entry)).await.unwrap();
    before.truncate_after(Some(at(84))).await.unwrap();
    let committed = Some(at(79));
    before.save_committed(committed).await.unwrap();
    before.blocking_append([entry(85)]).await.unwrap();
    before.purge(at(74)).await.unwrap();
    drop(before);

    use openraft::RaftLogReader;
    let mut after = log(dir.path());
    assert!(!after.is_new());
    assert_eq!(after.read_vote().await.unwrap(), Some(vote));
    let state = after.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id.unwrap().index, 74);
    assert_eq!(state.last_log_id.unwrap().index, 85);
    assert_eq!(after.read_committed().await.unwrap(), committed);
    let entries = after.try_get_log_entries(0..100).await.unwrap();
    assert_eq!(
        entries.iter().map(|e| e.log_id.index).collect::<Vec<_>>(),
        (75..86).collect::<Vec<_>>()
    );
    let mut log = after;
    let some = log.limited_get_log_entries(75, 86).await.unwrap();
    assert_eq!(some.len(), 11);
}
