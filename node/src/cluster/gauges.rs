//! Measures this node every second: for the metrics, and for what it tells the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{GatewayLink, NodeHealth, StoreTrouble};
use parlance_proto::store::v1::MapNode;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::announce::certificate_in_use;
use super::tasks::Tasks;
use super::view::ClusterView;
use super::vitals::Vitals;
use crate::clock::Environment;
use crate::link::Links;
use crate::metrics::{NodeFigures, ReplicaCounts};
use crate::raft::{RaftHost, Replica, log_dir};
use crate::store::rocks::state_dir;
use crate::store::{StateStore, StoreFigures};

const INTERVAL: Duration = Duration::from_secs(1);
/// A database that failed in the background is in trouble for so long after the last time.
const TROUBLE_LASTS: Duration = Duration::from_secs(60);

/// What is measured, and where it goes.
pub(super) struct GaugeParts {
    pub(super) view: ClusterView,
    pub(super) environment: Arc<dyn Environment>,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) host: RaftHost,
    pub(super) links: Links,
    pub(super) data_dir: PathBuf,
    pub(super) vitals: Vitals,
}

pub(super) struct Gauges {
    parts: GaugeParts,
    figures: NodeFigures,
    /// The nodes that a lag was said of: of one that has left the last must not stay.
    followers: BTreeSet<NodeId>,
    /// The newest term seen of each shard.
    terms: BTreeMap<ShardId, u64>,
    log: Watched,
    state: Watched,
    /// What was asked of the disk and is not answered yet, and since when.
    asked: Option<(Instant, JoinHandle<Disk>)>,
}

impl Gauges {
    pub(super) fn new(parts: GaugeParts) -> Self {
        Self {
            figures: NodeFigures::new(parts.view.node_id),
            parts,
            followers: BTreeSet::new(),
            terms: BTreeMap::new(),
            log: Watched::new("log"),
            state: Watched::new("state"),
            asked: None,
        }
    }

    /// Measures until the node stops.
    pub(super) async fn run(mut self, tasks: Tasks) {
        loop {
            self.replicas();
            self.others();
            let Some(disk) = tasks.or_stopped(self.ask_disk()).await else {
                return;
            };
            self.own(disk.as_ref());
            if tasks.or_stopped(sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    fn replicas(&mut self) {
        let view = &self.parts.view;
        let (mut counts, mut changes) = (ReplicaCounts::default(), 0);
        let members: Vec<NodeId> = view.state().members().map(MapNode::id).collect();
        let others = members.into_iter().filter(|id| *id != view.node_id);
        self.followers.extend(others);
        let mut lags: BTreeMap<NodeId, u64> = self.followers.iter().map(|id| (*id, 0)).collect();
        let replicas = view.replicas();
        for raft in &replicas {
            self.replica(raft, &mut counts, &mut lags, &mut changes);
        }
        self.terms
            .retain(|id, _| replicas.binary_search_by_key(id, Replica::id).is_ok());
        let stopped = self.parts.host.stopped().borrow().len();
        self.figures.replicas(&counts, stopped);
        self.figures.leader_changes(changes);
        for (follower, lag) in lags {
            self.figures.follower_lag(follower, lag);
        }
    }

    fn replica(
        &mut self,
        raft: &Replica,
        counts: &mut ReplicaCounts,
        lags: &mut BTreeMap<NodeId, u64>,
        changes: &mut u64,
    ) {
        let status = raft.status();
        // One that is seen for the first time had its terms before.
        let before = self.terms.insert(raft.id(), status.term);
        *changes += before.map_or(0, |before| status.term.saturating_sub(before));
        let leadership = *raft.leadership().borrow();
        if status.stopped.is_some() {
            counts.stopped += 1;
        } else if leadership.leading {
            counts.leading += 1;
            for (follower, lag) in lags.iter_mut() {
                *lag = (*lag).max(status.behind(*follower).unwrap_or(0));
            }
        } else if leadership.leader.is_some() {
            counts.following += 1;
        } else {
            counts.no_leader += 1;
        }
    }

    fn others(&self) {
        let view = &self.parts.view;
        let now_ms = self.parts.environment.now_ms();
        let members: Vec<NodeId> = view.state().members().map(MapNode::id).collect();
        let unheard = members.iter().filter(|id| !view.is_reachable(**id)).count();
        let heard = members.iter().filter_map(|id| view.heard.of(*id));
        let farthest = heard.map(|heard| heard.clock_ahead_ms(now_ms).unsigned_abs());
        let farthest = farthest.max().unwrap_or(0);
        self.figures
            .others(unheard, Duration::from_millis(farthest));
        let ahead_ms = view.clock.ahead_ms(view.node_id);
        self.figures.clock_ahead(ahead_ms.unwrap_or(0));
    }

    /// Databases and file systems may be stuck: they are asked on another thread, and not twice at a time.
    async fn ask_disk(&mut self) -> Option<Disk> {
        let parts = &self.parts;
        let (_, asked) = self.asked.get_or_insert_with(|| {
            let (host, store) = (parts.host.clone(), parts.store.clone());
            let dirs = [log_dir(&parts.data_dir), state_dir(&parts.data_dir)];
            let ask = move || Disk {
                log: host.log_figures(),
                state: store.figures(),
                space: dirs.iter().filter_map(|dir| Space::of(dir)).min(),
            };
            (Instant::now(), tokio::task::spawn_blocking(ask))
        });
        let disk = timeout(INTERVAL, asked).await.ok()?;
        self.asked = None;
        disk.ok() // cut off only when the process ends
    }

    /// None: the disk has not answered.
    fn own(&mut self, disk: Option<&Disk>) {
        let now = Instant::now();
        let last = self.parts.vitals.get();
        let (mut stores, mut space) = (last.stores, Space::default());
        if let Some(disk) = disk {
            let log = self.log.look(&disk.log, now, &self.figures);
            let state = self.state.look(&disk.state, now, &self.figures);
            stores = log.into_iter().chain(state).collect();
            space = disk.space.unwrap_or_default();
            self.figures.disk(space.free_bytes, space.total_bytes);
        }
        if self.parts.host.store_refuses() && !stores.iter().any(|of| of.store == "state") {
            stores.push(StoreTrouble {
                store: "state".to_owned(),
                failing: true,
                stopped: false,
            });
        }
        let asked = self.asked.as_ref().map(|(since, _)| since.elapsed());
        let silent = asked.unwrap_or_default();
        let silent = silent.max(self.parts.host.log_waiting());
        self.figures.silent(silent);
        let room = self.parts.host.room().now();
        self.figures.room(room);
        let links = self.parts.links.linked();
        self.figures.links(links.len(), self.parts.links.held());
        let shards = self.parts.view.shards.all();
        let oldest_push = shards.iter().map(|shard| shard.marks().waiting()).max();
        let oldest_push = oldest_push.unwrap_or_default();
        let states = links.iter().map(|link| &link.state);
        let oldest_frame = states.filter(|link| link.connected);
        let oldest_frame = oldest_frame.map(|link| link.waiting).max();
        self.figures
            .waiting(oldest_push, oldest_frame.unwrap_or_default());
        let links = links.into_iter().map(|link| GatewayLink {
            waiting_ms: millis(link.state.waiting),
            gateway_id: link.state.gateway_id,
            version: link.state.version,
            connected: link.state.connected,
            certificate: Some(certificate_in_use(&link.certificate)),
        });
        self.parts.vitals.set(NodeHealth {
            time_ms: 0, // stamped when it is said
            disk_free_bytes: space.free_bytes,
            disk_total_bytes: space.total_bytes,
            disk_silent_ms: millis(silent),
            disk_lacking: room as u32,
            stores,
            links: links.collect(),
            oldest_push_ms: millis(oldest_push),
            certificate: None, // as is the certificate
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What was asked of the disk.
#[derive(Default)]
struct Disk {
    log: StoreFigures,
    state: StoreFigures,
    /// Of the file system with the least room.
    space: Option<Space>,
}

/// Room on a file system, in bytes. The one with less is the lesser.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Space {
    free_bytes: u64,
    total_bytes: u64,
}

impl Space {
    fn of(dir: &std::path::Path) -> Option<Self> {
        let said = rustix::fs::statvfs(dir).ok()?;
        Some(Self {
            free_bytes: said.f_bavail.saturating_mul(said.f_frsize),
            total_bytes: said.f_blocks.saturating_mul(said.f_frsize),
        })
    }
}

/// One database, and when it failed last.
struct Watched {
    name: &'static str,
    errors: u64,
    failed: Option<Instant>,
}

impl Watched {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            errors: 0,
            failed: None,
        }
    }

    fn look(
        &mut self,
        said: &StoreFigures,
        now: Instant,
        figures: &NodeFigures,
    ) -> Option<StoreTrouble> {
        figures.store(self.name, said);
        if said.background_errors > self.errors {
            self.failed = Some(now);
        }
        self.errors = said.background_errors;
        let failing = self.failed.is_some_and(|at| now < at + TROUBLE_LASTS);
        (failing || said.has_stopped).then(|| StoreTrouble {
            store: self.name.to_owned(),
            failing,
            stopped: said.has_stopped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_failed_is_in_trouble_until_it_has_worked_for_a_minute() {
        let figures = NodeFigures::new(NodeId(1));
        let mut watched = Watched::new("state");
        let begin = Instant::now();
        let mut look = |background_errors, has_stopped, seconds| {
            let said = StoreFigures {
                background_errors,
                has_stopped,
                ..StoreFigures::default()
            };
            let trouble = watched.look(&said, begin + Duration::from_secs(seconds), &figures);
            trouble.map(|trouble| (trouble.failing, trouble.stopped))
        };
        assert_eq!(look(0, false, 0), None);
        assert_eq!(look(2, true, 1), Some((true, true)));
        assert_eq!(look(2, false, 30), Some((true, false)));
        assert_eq!(look(2, false, 61), None);
        assert_eq!(look(2, true, 62), Some((false, true)));
        assert_eq!(look(3, false, 63), Some((true, false)));
    }
}
