//! What is measured every second: a node's replicas, its disk and databases, its links, its pushes. Each has the node's
//! id as a label, because `parlance dev` runs several nodes in one process. None is of one shard or one gateway.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use parlance_proto::ids::NodeId;

use crate::store::StoreFigures;
use crate::store::room::Room;

const REPLICAS: &str = "parlance_node_replicas";
const REPLICAS_STOPPED: &str = "parlance_node_replicas_stopped";
const LEADER_CHANGES: &str = "parlance_node_leader_changes_total";
const FOLLOWER_LAG: &str = "parlance_node_follower_lag_entries";
const NODES_UNHEARD: &str = "parlance_node_nodes_unheard";
const CLOCK_OFFSET: &str = "parlance_node_clock_offset_seconds";
const CLOCK_AHEAD: &str = "parlance_node_clock_ahead_seconds";
const OLDEST_PUSH: &str = "parlance_node_oldest_push_seconds";
const LINKS: &str = "parlance_node_links";
const LINK_WAITING: &str = "parlance_node_link_waiting_seconds";
const LINK_HELD: &str = "parlance_node_link_held_bytes";
const DISK_FREE: &str = "parlance_node_disk_free_bytes";
const DISK_TOTAL: &str = "parlance_node_disk_total_bytes";
const DISK_LACKING: &str = "parlance_node_disk_lacking";
const DISK_SILENT: &str = "parlance_node_disk_silent_seconds";
const STORE_MEMORY: &str = "parlance_node_store_memory_bytes";
const STORE_CACHE: &str = "parlance_node_store_cache_bytes";
const STORE_FILES: &str = "parlance_node_store_file_bytes";
const STORE_LEVEL0: &str = "parlance_node_store_level0_files";
const STORE_PENDING: &str = "parlance_node_store_pending_compaction_bytes";
const STORE_SLOWING: &str = "parlance_node_store_slows_writes";
const STORE_STOPPED: &str = "parlance_node_store_writes_stopped";
const STORE_ERRORS: &str = "parlance_node_store_background_errors_total";

pub(super) fn describe() {
    describe_gauge!(
        REPLICAS,
        "replicas on this node (label state: leading, following, no_leader, stopped)"
    );
    describe_gauge!(
        REPLICAS_STOPPED,
        "replicas that have stopped by themselves, by damage or a disk that stayed full"
    );
    describe_counter!(
        LEADER_CHANGES,
        "new terms of all shards with a replica on this node"
    );
    describe_gauge!(
        FOLLOWER_LAG,
        "entries that a follower lacks of the shard led here in which it lacks most (label follower)"
    );
    describe_gauge!(
        NODES_UNHEARD,
        "members of the cluster that this node does not hear"
    );
    describe_gauge!(
        CLOCK_OFFSET,
        Unit::Seconds,
        "how far the farthest clock of another node is from this node's"
    );
    describe_gauge!(
        CLOCK_AHEAD,
        Unit::Seconds,
        "how far the node's clock is ahead of what the nodes agree on; negative: behind"
    );
    describe_gauge!(
        OLDEST_PUSH,
        Unit::Seconds,
        "how long the oldest push of the shards led here has been under way"
    );
    describe_gauge!(LINKS, "link sessions of gateways");
    describe_gauge!(
        LINK_WAITING,
        Unit::Seconds,
        "how long the oldest frame that a gateway has not acknowledged has waited"
    );
    describe_gauge!(
        LINK_HELD,
        Unit::Bytes,
        "bytes that wait for gateways, on all links"
    );
    describe_gauge!(
        DISK_LACKING,
        "0: the disk has its reserve free; 1: nothing new is taken; 2: nothing at all is"
    );
    describe_gauge!(DISK_FREE, Unit::Bytes, "free space for this node's data");
    describe_gauge!(
        DISK_TOTAL,
        Unit::Bytes,
        "size of the file system with this node's data"
    );
    describe_gauge!(
        DISK_SILENT,
        Unit::Seconds,
        "for how long the disk has not answered"
    );
    describe_stores();
}

fn describe_stores() {
    describe_gauge!(
        STORE_MEMORY,
        Unit::Bytes,
        "rows in memory that are in no file yet (label store: log, state)"
    );
    describe_gauge!(
        STORE_CACHE,
        Unit::Bytes,
        "blocks of files in memory (label store)"
    );
    describe_gauge!(STORE_FILES, Unit::Bytes, "files of rows (label store)");
    describe_gauge!(
        STORE_LEVEL0,
        "files of one table that wait for their first compaction (label store)"
    );
    describe_gauge!(
        STORE_PENDING,
        Unit::Bytes,
        "what compactions have before them, an estimate (label store)"
    );
    describe_gauge!(
        STORE_SLOWING,
        "1 while writes are slowed down for compactions (label store)"
    );
    describe_gauge!(STORE_STOPPED, "1 while no write is taken (label store)");
    describe_counter!(
        STORE_ERRORS,
        "flushes and compactions that failed (label store)"
    );
}

/// How many replicas are in which state.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ReplicaCounts {
    pub(crate) leading: usize,
    pub(crate) following: usize,
    pub(crate) no_leader: usize,
    pub(crate) stopped: usize,
}

/// The figures of one node.
pub(crate) struct NodeFigures {
    node: String,
}

impl NodeFigures {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node: node.to_string(),
        }
    }

    fn set(&self, name: &'static str, value: f64) {
        gauge!(name, "node" => self.node.clone()).set(value);
    }

    /// How many have stopped by themselves counts those too that never ran since the start.
    pub(crate) fn replicas(&self, counts: &ReplicaCounts, stopped: usize) {
        self.set(REPLICAS_STOPPED, stopped as f64);
        for (state, count) in [
            ("leading", counts.leading),
            ("following", counts.following),
            ("no_leader", counts.no_leader),
            ("stopped", counts.stopped),
        ] {
            gauge!(REPLICAS, "node" => self.node.clone(), "state" => state).set(count as f64);
        }
    }

    pub(crate) fn leader_changes(&self, terms: u64) {
        counter!(LEADER_CHANGES, "node" => self.node.clone()).increment(terms);
    }

    pub(crate) fn follower_lag(&self, follower: NodeId, entries: u64) {
        let labels = [
            ("node", self.node.clone()),
            ("follower", follower.to_string()),
        ];
        gauge!(FOLLOWER_LAG, &labels).set(entries as f64);
    }

    pub(crate) fn others(&self, unheard: usize, clock_offset: Duration) {
        self.set(NODES_UNHEARD, unheard as f64);
        self.set(CLOCK_OFFSET, clock_offset.as_secs_f64());
    }

    pub(crate) fn clock_ahead(&self, ahead_ms: i64) {
        self.set(CLOCK_AHEAD, ahead_ms as f64 / 1000.0);
    }

    pub(crate) fn waiting(&self, oldest_push: Duration, oldest_frame: Duration) {
        self.set(OLDEST_PUSH, oldest_push.as_secs_f64());
        self.set(LINK_WAITING, oldest_frame.as_secs_f64());
    }

    pub(crate) fn links(&self, count: usize, held_bytes: usize) {
        self.set(LINKS, count as f64);
        self.set(LINK_HELD, held_bytes as f64);
    }

    pub(crate) fn room(&self, room: Room) {
        self.set(DISK_LACKING, f64::from(room as u8));
    }

    pub(crate) fn silent(&self, disk: Duration) {
        self.set(DISK_SILENT, disk.as_secs_f64());
    }

    pub(crate) fn disk(&self, free_bytes: u64, total_bytes: u64) {
        self.set(DISK_FREE, free_bytes as f64);
        self.set(DISK_TOTAL, total_bytes as f64);
    }

    pub(crate) fn store(&self, store: &'static str, figures: &StoreFigures) {
        for (name, value) in [
            (STORE_MEMORY, figures.memory_bytes),
            (STORE_CACHE, figures.cache_bytes),
            (STORE_FILES, figures.file_bytes),
            (STORE_LEVEL0, figures.level0_files),
            (STORE_PENDING, figures.pending_compaction_bytes),
            (STORE_SLOWING, figures.is_slowing.into()),
            (STORE_STOPPED, figures.has_stopped.into()),
        ] {
            gauge!(name, "node" => self.node.clone(), "store" => store).set(value as f64);
        }
        counter!(STORE_ERRORS, "node" => self.node.clone(), "store" => store)
            .absolute(figures.background_errors);
    }
}
