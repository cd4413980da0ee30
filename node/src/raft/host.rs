//! All Raft groups of a node: one log for all of them, one link to other nodes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::Raft;
use openraft::raft::SnapshotResponse as LibrarySnapshotResponse;
use openraft::storage::Snapshot;
use parking_lot::RwLock;
use parlance_proto::raft::v1::{
    SnapshotChunk, SnapshotHeader, SnapshotResponse, TransferLeaderResponse, call_error::Reason,
    peer_message::Body,
};
use parlance_proto::shard::Group;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::convert::{self, Malformed};
use super::error::RaftError;
use super::group::RaftGroup;
use super::group_commit::{GroupCommit, LogEngine};
use super::log_db::TornLog;
use super::log_store::LogStore;
use super::network::NetworkFactory;
use super::peer::{PeerLink, RaftInbound, call_error};
use super::purge_gate::FlushState;
use super::snapshot::SnapshotFolder;
use super::snapshot_receive;
use super::state_machine::{GroupState, SnapshotByBytes};
use super::types::{TypeConfig, Vote};
use super::{NodeId, RaftConfig, StateMachine};
use crate::store::StateStore;
use crate::store::manifest::{self, Existing, ManifestGuard};

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
    /// Only held: it follows the log's manifest until the host is gone.
    _manifest: ManifestGuard,
}

/// All Raft groups of a node. Clones are the same host.
#[derive(Clone)]
pub struct RaftHost {
    parts: Arc<Parts>,
    groups: Arc<RwLock<HashMap<Group, RaftGroup>>>,
}

impl RaftHost {
    /// Opens the Raft log of a data directory, or makes it. No group runs yet.
    pub async fn open(
        config: RaftHostConfig,
        store: Arc<dyn StateStore>,
        peers: Arc<dyn PeerLink>,
    ) -> Result<Self, RaftError> {
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
        Ok(Self {
            parts: Arc::new(Parts {
                config,
                log: Arc::new(log),
                store,
                peers,
                _manifest: manifest,
            }),
            groups: Arc::default(),
        })
    }

    /// Takes Raft's messages of other nodes.
    pub fn inbound(&self) -> Arc<dyn RaftInbound> {
        Arc::new(self.clone())
    }

    /// Says why the process must end, once it must: the log's disk failed or its content is damaged.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.parts.log.failed()
    }

    /// Starts this node's replica of a group: with the log and the rows that it has, or as a new one that waits for
    /// [`RaftGroup::initialize`] or for a leader.
    pub async fn start_group(
        &self,
        group: Group,
        machine: Box<dyn StateMachine>,
    ) -> Result<RaftGroup, RaftError> {
        let parts = self.parts.clone();
        let by_bytes = Arc::new(SnapshotByBytes::new(parts.config.raft.snapshot_bytes));
        let bytes = by_bytes.clone();
        let open = move || open_group(&parts, group, machine, bytes);
        let opened = tokio::task::spawn_blocking(open).await;
        let Opened { log, state, folder } = opened.map_err(|e| RaftError::Start {
            group,
            reason: e.to_string(),
        })??;
        let parts = &self.parts;
        let start = |e: String| RaftError::Start { group, reason: e };
        let quiet = (!log.is_new()).then(|| parts.config.raft.lease());
        let config = parts
            .config
            .raft
            .openraft()
            .validate()
            .map_err(|e| start(e.to_string()))?;
        let network = NetworkFactory {
            node_id: parts.config.node_id,
            group,
            peers: parts.peers.clone(),
            config: parts.config.raft.clone(),
        };
        let raft = Raft::build(parts.config.node_id, Arc::new(config), network, log, state)
            .await
            .map_err(|e| RaftError::GroupDamaged {
                group,
                reason: e.to_string(),
            })?;
        if quiet.is_some() {
            raft.runtime_config().elect(false);
        }
        raft.run();
        let handle = RaftGroup::start(
            (group, parts.config.node_id),
            raft,
            folder,
            &parts.config.raft,
            quiet,
            by_bytes,
        );
        self.groups.write().insert(group, handle.clone());
        Ok(handle)
    }

    /// A group that was started here.
    pub fn get(&self, group: Group) -> Option<RaftGroup> {
        self.groups.read().get(&group).cloned()
    }

    /// Stops every group, then closes the log.
    pub async fn shutdown(&self) {
        let groups: Vec<RaftGroup> = self
            .groups
            .write()
            .drain()
            .map(|(_, group)| group)
            .collect();
        futures::future::join_all(groups.iter().map(RaftGroup::shutdown)).await;
        let log = self.parts.log.clone();
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
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

struct Opened {
    log: LogStore,
    state: GroupState,
    folder: SnapshotFolder,
}

fn open_group(
    parts: &Parts,
    group: Group,
    mut machine: Box<dyn StateMachine>,
    by_bytes: Arc<SnapshotByBytes>,
) -> Result<Opened, RaftError> {
    let damaged = |reason: String| RaftError::GroupDamaged { group, reason };
    let store = parts.store.clone();
    let folder =
        SnapshotFolder::open(&parts.config.data_dir, group).map_err(|e| damaged(e.to_string()))?;
    if folder
        .finish_install(&*store)
        .map_err(|e| damaged(e.to_string()))?
    {
        machine.restored()?;
    }
    folder
        .remove_unfinished()
        .map_err(|e| damaged(e.to_string()))?;
    let gate = Box::new(FlushState::new(group, store.clone()));
    let log = LogStore::open(
        group,
        parts.log.clone(),
        gate,
        parts.config.raft.log_tail_bytes,
    )
    .map_err(|e| damaged(e.to_string()))?;
    let state = GroupState::open(group, store, machine, folder.clone(), by_bytes)
        .map_err(|e| damaged(e.to_string()))?;
    if log.purged() > state.applied() {
        let (rows, log) = (
            state.applied().map_or(0, |id| id.index),
            log.purged().map_or(0, |id| id.index),
        );
        return Err(damaged(format!(
            "its rows end at entry {rows}, but its log begins behind entry {log}"
        )));
    }
    Ok(Opened { log, state, folder })
}

impl RaftInbound for RaftHost {
    fn handle(&self, from: NodeId, group: Group, body: Body) -> BoxFuture<'static, Body> {
        let Some(replica) = self.get(group) else {
            return futures::future::ready(call_error(
                Reason::UnknownGroup,
                format!("no replica of group {group} here"),
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
        let replica = self.get(header.group);
        async move {
            let installed = match replica {
                Some(replica) => install(&replica, from, header, chunks).await,
                None => Err("no replica of that group here".to_owned()),
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
    if vote.leader_id.node_id == from {
        Ok(())
    } else {
        Err(Malformed("the vote is another node's"))
    }
}

async fn answer(replica: &RaftGroup, from: NodeId, body: Body) -> Result<Body, Failure> {
    let raft = &replica.inner().raft;
    match body {
        Body::Append(request) => {
            let request = convert::to_append_request(request)?;
            check_sender(&request.vote, from)?;
            let response = raft.append_entries(request).await.map_err(stopped)?;
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
            Ok(Body::VoteResponse(convert::vote_response(
                &raft.vote(request).await.map_err(stopped)?,
            )))
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
fn is_quiet(replica: &RaftGroup, leadership_transfer: bool) -> bool {
    !leadership_transfer
        && replica
            .inner()
            .quiet_until
            .is_some_and(|until| Instant::now() < until)
}

async fn install(
    replica: &RaftGroup,
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
    let manifest = header.manifest.ok_or("no manifest")?;
    if manifest.group != header.group {
        return Err("the manifest is another group's".to_owned());
    }
    let folder = replica.inner().folder.clone();
    let received =
        tokio::task::spawn_blocking(move || snapshot_receive::receive(&folder, manifest, chunks))
            .await;
    let files = received
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    let meta = files.meta().map_err(|e| e.to_string())?;
    let snapshot = Snapshot {
        meta,
        snapshot: files,
    };
    replica
        .inner()
        .raft
        .install_full_snapshot(vote, snapshot)
        .await
        .map_err(|e| e.to_string())
}
