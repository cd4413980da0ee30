//! All replicas of a node: one log for all of them, one link to other nodes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::Raft;
use openraft::raft::{AppendEntriesResponse, SnapshotResponse as LibrarySnapshotResponse};
use openraft::storage::Snapshot;
use parking_lot::RwLock;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    SnapshotChunk, SnapshotHeader, SnapshotResponse, TransferLeaderResponse, call_error::Reason,
    peer_message::Body,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::convert::{self, Malformed};
use super::error::RaftError;
use super::feed::Feed;
use super::group_commit::{GroupCommit, LogEngine};
use super::log_db::TornLog;
use super::log_store::LogStore;
use super::log_tail::TailBudget;
use super::network::NetworkFactory;
use super::peer::{PeerLink, RaftInbound, call_error};
use super::purge_gate::FlushState;
use super::replica::{Replica, ReplicaParts};
use super::shard_rows::ShardRows;
use super::snapshot::SnapshotData;
use super::snapshot_folder::SnapshotFolder;
use super::snapshot_receive;
use super::state_machine::{Ends, ReplicaState, SnapshotByBytes};
use super::types::{TypeConfig, Vote};
use super::{RaftConfig, metrics, pulse};
use crate::machine::StateMachine;
use crate::store::manifest::{self, Existing, ManifestGuard};
use crate::store::room::{DiskRoom, Room};
use crate::store::{StateStore, StoreFigures};

/// Appends that take longer are answered by nothing, so that no more of them wait than come in this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// A log without a new entry for this long is idle.
const IDLE_AFTER: Duration = Duration::from_secs(10);

/// Where the Raft log is inside a data directory.
pub fn log_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

/// What a host needs to know.
#[derive(Debug, Clone)]
pub struct RaftHostConfig {
    /// This node.
    pub node_id: NodeId,
    /// Where its log and its snapshots are.
    pub data_dir: PathBuf,
    /// Timing and sizes.
    pub raft: RaftConfig,
    /// Give up what follows the first damaged record of the log. For one start, by an operator.
    pub recover_torn_log: bool,
    /// Whether the log must be there already.
    pub existing: Existing,
}

struct Parts {
    config: RaftHostConfig,
    log: Arc<dyn LogEngine>,
    store: Arc<dyn StateStore>,
    peers: Arc<dyn PeerLink>,
    tails: Arc<TailBudget>,
    /// Snapshots that may be sent, and received, at a time.
    sending: Arc<Semaphore>,
    receiving: Arc<Semaphore>,
    /// Replicas that have stopped by themselves, and why.
    stopped: watch::Sender<BTreeMap<ShardId, String>>,
    /// Why the process must end: the disk of the state store, as the log says of its own.
    store_failed: watch::Sender<Option<String>>,
    /// Replicas that wait for the store to take rows have copies.
    store_waiting: Arc<()>,
    room: DiskRoom,
    /// Only held: it follows the log's manifest until the host is gone.
    _manifest: ManifestGuard,
}

/// All replicas of a node. Clones are the same host.
#[derive(Clone)]
pub struct RaftHost {
    parts: Arc<Parts>,
    replicas: Arc<RwLock<HashMap<ShardId, Replica>>>,
}

impl RaftHost {
    /// Opens the Raft log of a data directory, or makes it. No replica runs yet.
    pub async fn open(
        config: RaftHostConfig,
        store: Arc<dyn StateStore>,
        peers: Arc<dyn PeerLink>,
    ) -> Result<Self, RaftError> {
        metrics::describe();
        let dir = log_dir(&config.data_dir);
        let torn = if config.recover_torn_log {
            TornLog::Recover
        } else {
            TornLog::Refuse
        };
        let existing = config.existing;
        let opened = tokio::task::spawn_blocking({
            let dir = dir.clone();
            move || open_log(&dir, torn, existing)
        });
        let (log, manifest) = opened.await.map_err(|e| RaftError::LogDamaged {
            dir,
            reason: e.to_string(),
        })??;
        let at_once = config.raft.snapshots_at_once;
        let host = Self {
            parts: Arc::new(Parts {
                tails: TailBudget::new(config.raft.log_tail_bytes),
                room: DiskRoom::new(config.raft.disk_reserve_bytes),
                config,
                log: Arc::new(log),
                store,
                peers,
                sending: Arc::new(Semaphore::new(at_once)),
                receiving: Arc::new(Semaphore::new(at_once)),
                stopped: watch::Sender::default(),
                store_failed: watch::Sender::default(),
                store_waiting: Arc::default(),
                _manifest: manifest,
            }),
            replicas: Arc::default(),
        };
        let every = Duration::from_millis(host.parts.config.raft.heartbeat_ms);
        tokio::spawn(pulse::beat(Arc::downgrade(&host.replicas), every));
        tokio::spawn(forget_idle_tails(
            Arc::downgrade(&host.parts),
            Arc::downgrade(&host.replicas),
        ));
        Ok(host)
    }

    /// Takes Raft's messages of other nodes.
    pub fn inbound(&self) -> Arc<dyn RaftInbound> {
        Arc::new(self.clone())
    }

    /// Resolves with the reason once the process must end: a disk failed, or the log is damaged.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let (log, store) = (self.parts.log.failed(), self.parts.store_failed.subscribe());
        async move {
            tokio::select! {
                reason = reason(log) => reason,
                reason = reason(store) => reason,
            }
        }
    }

    /// The room on the disk of its data directory; whoever measures it says so here.
    pub fn room(&self) -> &DiskRoom {
        &self.parts.room
    }

    /// Whether the state store takes no rows at the moment.
    pub fn store_refuses(&self) -> bool {
        Arc::strong_count(&self.parts.store_waiting) > 1
    }

    /// For how long the log's disk has not answered.
    pub fn log_waiting(&self) -> Duration {
        self.parts.log.waiting()
    }

    /// How the log's database is. Quick, but may wait for it.
    pub fn log_figures(&self) -> StoreFigures {
        self.parts.log.figures()
    }

    /// The replicas that have stopped by themselves, with the reason: a disk, or damage. They are stopped until they are
    /// started again.
    pub fn stopped(&self) -> watch::Receiver<BTreeMap<ShardId, String>> {
        self.parts.stopped.subscribe()
    }

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
        parts.stopped.send_if_modified(|stopped| {
            let again = stopped.remove(&shard).is_some();
            metrics::replicas_stopped(stopped.len());
            again
        });
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

    /// The replica of a shard that was started here.
    pub fn get(&self, shard: ShardId) -> Option<Replica> {
        self.replicas.read().get(&shard).cloned()
    }

    /// Stops every replica, then closes the log.
    pub async fn shutdown(&self) {
        let replicas: Vec<Replica> = self
            .replicas
            .write()
            .drain()
            .map(|(_, replica)| replica)
            .collect();
        futures::future::join_all(replicas.iter().map(Replica::shutdown)).await;
        let log = self.parts.log.clone();
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
    }
}

async fn reason(mut failed: watch::Receiver<Option<String>>) -> String {
    let failed = failed.wait_for(Option::is_some).await;
    let reason = failed.ok().and_then(|reason| reason.clone());
    match reason {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}

/// Opens a log that is there, or makes one that need not be: never in the place of one that is lost or cut.
fn open_log(
    dir: &Path,
    torn: TornLog,
    existing: Existing,
) -> Result<(GroupCommit, ManifestGuard), RaftError> {
    let damaged = |reason: String| RaftError::LogDamaged {
        dir: dir.to_owned(),
        reason,
    };
    manifest::check(dir, existing).map_err(damaged)?;
    let log = GroupCommit::open(dir, torn)?;
    let guard = ManifestGuard::start(dir).map_err(|e| damaged(e.to_string()))?;
    Ok((log, guard))
}

/// Lets the newest entries of idle shards out of memory while busy ones need it.
async fn forget_idle_tails(parts: Weak<Parts>, replicas: Weak<RwLock<HashMap<ShardId, Replica>>>) {
    loop {
        tokio::time::sleep(IDLE_AFTER).await;
        let (Some(parts), Some(replicas)) = (parts.upgrade(), replicas.upgrade()) else {
            return;
        };
        if parts.tails.is_tight() {
            let replicas: Vec<Replica> = replicas.read().values().cloned().collect();
            replicas
                .iter()
                .for_each(|replica| replica.inner().log.forget_if_idle());
        }
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
    let feed = Feed::new(ShardRows::new(shard, store, machine.ranges()));
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

impl RaftInbound for RaftHost {
    fn handle(&self, from: NodeId, shard: ShardId, body: Body) -> BoxFuture<'static, Body> {
        let Some(replica) = self.get(shard) else {
            return futures::future::ready(call_error(
                Reason::UnknownShard,
                format!("no replica of shard {shard} here"),
            ))
            .boxed();
        };
        async move {
            match answer(&replica, from, body).await {
                Ok(answer) => answer,
                Err(Failure::Malformed(e)) => call_error(Reason::Refused, e.to_string()),
                Err(Failure::Stopped(reason)) => call_error(Reason::Stopped, reason),
            }
        }
        .boxed()
    }

    fn snapshot(
        &self,
        from: NodeId,
        header: SnapshotHeader,
        chunks: mpsc::Receiver<SnapshotChunk>,
    ) -> BoxFuture<'static, SnapshotResponse> {
        let replica = self.get(ShardId(header.shard));
        let receiving = self.parts.receiving.clone();
        async move {
            let installed = match replica {
                Some(replica) => install(&replica, receiving, from, header, chunks).await,
                None => Err("no replica of that shard here".to_owned()),
            };
            match installed {
                Ok(response) => SnapshotResponse {
                    vote: Some(convert::vote(&response.vote)),
                    error: String::new(),
                },
                Err(error) => SnapshotResponse { vote: None, error },
            }
        }
        .boxed()
    }
}

/// Why a message was not answered.
enum Failure {
    Malformed(Malformed),
    Stopped(String),
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        Failure::Malformed(error)
    }
}

fn stopped(error: impl std::fmt::Display) -> Failure {
    Failure::Stopped(error.to_string())
}

/// Nobody speaks for another node.
fn check_sender(vote: &Vote, from: NodeId) -> Result<(), Malformed> {
    if vote.leader_id.voted_for == from {
        Ok(())
    } else {
        Err(Malformed("the vote is another node's"))
    }
}

async fn answer(replica: &Replica, from: NodeId, body: Body) -> Result<Body, Failure> {
    let raft = &replica.inner().raft;
    match body {
        Body::Append(request) => {
            let request = convert::to_append_request(request)?;
            check_sender(&request.vote, from)?;
            // Heartbeats go on: it follows its leader, and takes the entries once there is room.
            if !request.entries.is_empty() && replica.inner().room.now() == Room::Out {
                return Err(stopped("its disk is full"));
            }
            // While a snapshot is installed nothing is answered: who asked has given up long before.
            let response = timeout(ANSWER_WITHIN, raft.append_entries(request));
            let response = response.await.map_err(stopped)?.map_err(stopped)?;
            if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                replica.inner().turns.heard(from, Instant::now());
            }
            Ok(Body::AppendResponse(convert::append_response(&response)))
        }
        Body::Vote(request) | Body::PreVote(request)
            if is_quiet(replica, request.leadership_transfer) =>
        {
            Err(Failure::Stopped(
                "restarted a moment ago: does not vote yet".to_owned(),
            ))
        }
        Body::Vote(request) => {
            let request = convert::to_vote_request(&request)?;
            check_sender(&request.vote, from)?;
            let response = raft.vote(request).await.map_err(stopped)?;
            if response.vote_granted {
                replica.inner().turns.voted(Instant::now());
            }
            Ok(Body::VoteResponse(convert::vote_response(&response)))
        }
        Body::PreVote(request) => {
            let request = convert::to_vote_request(&request)?;
            check_sender(&request.vote, from)?;
            Ok(Body::VoteResponse(convert::vote_response(
                &raft.pre_vote(request).await.map_err(stopped)?,
            )))
        }
        Body::TransferLeader(request) => {
            let request = convert::to_transfer_request(&request)?;
            check_sender(request.from_leader(), from)?;
            let accepted = raft
                .handle_transfer_leader(request)
                .await
                .map_err(stopped)?;
            accepted.map_err(stopped)?;
            Ok(Body::TransferLeaderResponse(TransferLeaderResponse {}))
        }
        _ => Err(Failure::Malformed(Malformed("not a message of Raft"))),
    }
}

/// Whether a vote would break the promise to a leader that a restarted replica has forgotten. A leader that asks for
/// the election itself has given its lease up.
fn is_quiet(replica: &Replica, leadership_transfer: bool) -> bool {
    !leadership_transfer
        && replica
            .inner()
            .quiet_until
            .is_some_and(|until| Instant::now() < until)
}

async fn install(
    replica: &Replica,
    receiving: Arc<Semaphore>,
    from: NodeId,
    header: SnapshotHeader,
    chunks: mpsc::Receiver<SnapshotChunk>,
) -> Result<LibrarySnapshotResponse<TypeConfig>, String> {
    let vote = header
        .vote
        .as_ref()
        .map(convert::to_vote)
        .ok_or("no vote")?;
    check_sender(&vote, from).map_err(|e| e.to_string())?;
    if replica.inner().room.now() > Room::Enough {
        return Err("its disk has no room for a snapshot".to_owned());
    }
    // Both are kept until the rows are installed. The sender asks again; it must not wait with a view of its store open.
    let busy = "busy with another snapshot";
    let _shard = replica.inner().receiving.try_lock().map_err(|_| busy)?;
    let _node = receiving.try_acquire().map_err(|_| busy)?;
    let folder = replica.inner().folder.clone();
    let received =
        tokio::task::spawn_blocking(move || snapshot_receive::receive(&folder, &header, chunks));
    let received = received
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    metrics::snapshot("received");
    let snapshot = Snapshot {
        meta: received.meta.clone(),
        snapshot: SnapshotData::Received(received),
    };
    replica
        .inner()
        .raft
        .install_full_snapshot(vote, snapshot)
        .await
        .map_err(|e| e.to_string())
}
