//! All replicas of a node: one log for all of them, one link to other nodes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use parlance_proto::ids::{NodeId, ShardId};
use tokio::sync::{Semaphore, watch};

use super::error::RaftError;
use super::group_commit::{GroupCommit, LogEngine};
use super::log_db::TornLog;
use super::log_tail::TailBudget;
use super::peer::{PeerLink, RaftInbound};
use super::replica::Replica;
use super::{RaftConfig, metrics, pulse};
use crate::store::manifest::{self, Existing, ManifestGuard};
use crate::store::room::DiskRoom;
use crate::store::{StateStore, StoreFigures};

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

pub(super) struct Parts {
    pub(super) config: RaftHostConfig,
    pub(super) log: Arc<dyn LogEngine>,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) peers: Arc<dyn PeerLink>,
    pub(super) tails: Arc<TailBudget>,
    /// Snapshots that may be sent, and received, at a time.
    pub(super) sending: Arc<Semaphore>,
    pub(super) receiving: Arc<Semaphore>,
    /// Replicas that have stopped by themselves, and why.
    pub(super) stopped: watch::Sender<BTreeMap<ShardId, String>>,
    /// Why the process must end: the disk of the state store, as the log says of its own.
    pub(super) store_failed: watch::Sender<Option<String>>,
    /// Replicas that wait for the store to take rows have copies.
    pub(super) store_waiting: Arc<()>,
    pub(super) room: DiskRoom,
    /// Only held: it follows the log's manifest until the host is gone.
    _manifest: ManifestGuard,
}

/// All replicas of a node. Clones are the same host.
#[derive(Clone)]
pub struct RaftHost {
    pub(super) parts: Arc<Parts>,
    pub(super) replicas: Arc<RwLock<HashMap<ShardId, Replica>>>,
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
