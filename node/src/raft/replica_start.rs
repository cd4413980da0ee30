//! Starts a node's replica of one shard: with the log and the rows that it has, or as a new one.

use std::sync::Arc;

use openraft::Raft;
use parlance_proto::ids::ShardId;
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::error::RaftError;
use super::feed::Feed;
use super::host::{Parts, RaftHost};
use super::log_store::LogStore;
use super::network::NetworkFactory;
use super::purge_gate::FlushState;
use super::replica::{Replica, ReplicaParts};
use super::shard_rows::ShardRows;
use super::snapshot_folder::SnapshotFolder;
use super::state_machine::{Ends, ReplicaState, SnapshotByBytes};
use crate::machine::StateMachine;

impl RaftHost {
    /// Starts this node's replica of a shard: with the log and the rows that it has, or as a new one that waits for
    /// [`Replica::initialize`] or for a leader. Rows without a log, as a split leaves them
    /// ([`state_without_log`](crate::machine::state_without_log)), must have been flushed; the replica may vote and
    /// [`Replica::elect`] at once.
    pub async fn start_replica(
        &self,
        shard: ShardId,
        machine: Box<dyn StateMachine>,
    ) -> Result<Replica, RaftError> {
        let (parts, stop) = (self.parts.clone(), CancellationToken::new());
        let opened = {
            let (parts, stop) = (parts.clone(), stop.clone());
            tokio::task::spawn_blocking(move || open_replica(&parts, shard, machine, stop)).await
        };
        let start = |e: String| RaftError::Start { shard, reason: e };
        let opened = opened.map_err(|e| start(e.to_string()))??;
        let node_id = parts.config.node_id;
        let settings = &parts.config.raft;
        let quiet = (!opened.log.is_new()).then(|| settings.lease());
        let config = settings.openraft().validate();
        let config = Arc::new(config.map_err(|e| start(e.to_string()))?);
        let answers = Arc::<Answers>::default();
        let network = NetworkFactory {
            node_id,
            shard,
            peers: parts.peers.clone(),
            config: settings.clone(),
            feed: opened.feed.clone(),
            log: opened.log.clone(),
            answers: answers.clone(),
            sending: parts.sending.clone(),
        };
        let raft = Raft::build(node_id, config, network, opened.log.clone(), opened.state)
            .await
            .map_err(|e| RaftError::ReplicaDamaged {
                shard,
                reason: e.to_string(),
            })?;
        raft.run();
        parts
            .stopped
            .send_if_modified(|stopped| stopped.remove(&shard).is_some());
        let replica = ReplicaParts {
            raft,
            feed: opened.feed,
            folder: opened.folder,
            log: opened.log,
            answers,
            by_bytes: opened.by_bytes,
            ended: opened.ended,
            quiet,
            stop,
            stopped: parts.stopped.clone(),
            room: parts.room.clone(),
        };
        let handle = Replica::start(node_id, settings, replica);
        self.replicas.write().insert(shard, handle.clone());
        Ok(handle)
    }
}

struct Opened {
    log: LogStore,
    state: ReplicaState,
    feed: Arc<Feed>,
    folder: SnapshotFolder,
    by_bytes: Arc<SnapshotByBytes>,
    /// Nothing is applied any more.
    ended: CancellationToken,
}

fn open_replica(
    parts: &Parts,
    shard: ShardId,
    mut machine: Box<dyn StateMachine>,
    stop: CancellationToken,
) -> Result<Opened, RaftError> {
    let damaged = |reason: String| RaftError::ReplicaDamaged { shard, reason };
    let settings = &parts.config.raft;
    let store = parts.store.clone();
    let folder =
        SnapshotFolder::open(&parts.config.data_dir, shard).map_err(|e| damaged(e.to_string()))?;
    if folder
        .finish_install(&*store)
        .map_err(|e| damaged(e.to_string()))?
    {
        machine.restored()?;
    }
    let gate = Box::new(FlushState::new(shard, store.clone()));
    let log = LogStore::open(shard, parts.log.clone(), gate, parts.tails.clone())
        .map_err(|e| damaged(e.to_string()))?;
    let feed = Feed::new(
        parts.config.node_id,
        ShardRows::new(shard, store, machine.ranges()),
    );
    let by_bytes = Arc::new(SnapshotByBytes::new(settings.snapshot_bytes));
    let ended = CancellationToken::new();
    let state = ReplicaState::open(
        feed.clone(),
        machine,
        folder.clone(),
        by_bytes.clone(),
        Ends {
            stop,
            process: parts.store_failed.clone(),
            waiting: Arc::downgrade(&parts.store_waiting),
        },
        ended.clone().drop_guard(),
    )
    .map_err(|e| damaged(e.to_string()))?;
    let purged = log.purged().map_or(0, |id| id.index);
    if log.purged() > state.applied() {
        let rows = state.applied().map_or(0, |id| id.index);
        return Err(damaged(format!(
            "its rows end at entry {rows}, but its log begins behind entry {purged}"
        )));
    }
    let begins = log.committed().max(state.applied());
    feed.begins_at(begins.map_or(0, |id| id.index));
    // The count of bytes begins anew with each start, and the library counts entries from what is applied.
    if log.after(purged).0 > settings.snapshot_entries {
        by_bytes.is_long_already();
    }
    Ok(Opened {
        log,
        state,
        feed,
        folder,
        by_bytes,
        ended,
    })
}
