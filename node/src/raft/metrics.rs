//! The metrics of Raft on a node. No labels but a lane's name, and the node's id for gauges.

use std::time::Duration;

use metrics::{
    Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use parlance_proto::ids::NodeId;

const FSYNC_SECONDS: &str = "parlance_node_log_fsync_seconds";
const BATCH_ENTRIES: &str = "parlance_node_log_batch_entries";
const BATCH_BYTES: &str = "parlance_node_log_batch_bytes";
const APPEND_SECONDS: &str = "parlance_node_append_round_trip_seconds";
const PEER_QUEUE: &str = "parlance_node_peer_queue_messages";
const PEER_DROPPED: &str = "parlance_node_peer_dropped_total";
const PEER_RECONNECTS: &str = "parlance_node_peer_connects_total";
const PEER_FRAME_MESSAGES: &str = "parlance_node_peer_frame_messages";
const SNAPSHOTS: &str = "parlance_node_snapshots_total";
const SNAPSHOT_BYTES: &str = "parlance_node_snapshot_bytes_total";
const SNAPSHOTS_SENDING: &str = "parlance_node_snapshots_sending";
const DISK_FAILURES: &str = "parlance_node_disk_failures_total";

/// Tells the recorder what the metrics mean. Called once, at start.
pub(super) fn describe() {
    describe_histogram!(
        FSYNC_SECONDS,
        Unit::Seconds,
        "writing and syncing one batch of the Raft log"
    );
    describe_histogram!(
        BATCH_ENTRIES,
        Unit::Count,
        "entries, of all shards, in one synced batch"
    );
    describe_histogram!(BATCH_BYTES, Unit::Bytes, "bytes in one synced batch");
    describe_histogram!(
        APPEND_SECONDS,
        Unit::Seconds,
        "from sending an append to its answer"
    );
    describe_gauge!(
        PEER_QUEUE,
        "messages that wait for the stream to a node (label lane)"
    );
    describe_counter!(
        PEER_DROPPED,
        "messages to nodes dropped because the queue was full (label lane)"
    );
    describe_counter!(PEER_RECONNECTS, "connections to other nodes that came up");
    describe_histogram!(
        PEER_FRAME_MESSAGES,
        Unit::Count,
        "messages in one frame to a node (label lane)"
    );
    describe_counter!(
        SNAPSHOTS,
        "snapshots (label step: made, sent, received, installed, failed)"
    );
    describe_counter!(
        SNAPSHOT_BYTES,
        Unit::Bytes,
        "bytes of rows sent and received in snapshots (label step: sent, received)"
    );
    describe_gauge!(SNAPSHOTS_SENDING, "snapshots on their way to other nodes");
    describe_counter!(
        DISK_FAILURES,
        "flushes, writes, reads and installations that the disk refused"
    );
    // There from the start: an alert on its growth would not see it come as 1.
    counter!(DISK_FAILURES).increment(0);
}

pub(super) fn synced(took: Duration, entries: usize, bytes: usize) {
    histogram!(FSYNC_SECONDS).record(took.as_secs_f64());
    histogram!(BATCH_ENTRIES).record(entries as f64);
    histogram!(BATCH_BYTES).record(bytes as f64);
}

pub(super) fn append_round_trip(took: Duration) {
    histogram!(APPEND_SECONDS).record(took.as_secs_f64());
}

/// What the writer of one stream counts, looked up once.
pub(super) struct StreamMetrics {
    messages: Histogram,
    waiting: Gauge,
}

impl StreamMetrics {
    pub(super) fn new(node: NodeId, lane: &'static str) -> Self {
        Self {
            messages: histogram!(PEER_FRAME_MESSAGES, "lane" => lane),
            waiting: gauge!(PEER_QUEUE, "node" => node.to_string(), "lane" => lane),
        }
    }

    pub(super) fn frame(&self, messages: usize, waiting: usize) {
        self.messages.record(messages as f64);
        self.waiting.set(waiting as f64);
    }
}

pub(super) fn peer_dropped(lane: &'static str) {
    counter!(PEER_DROPPED, "lane" => lane).increment(1);
}

pub(super) fn peer_connected() {
    counter!(PEER_RECONNECTS).increment(1);
}

pub(super) fn snapshot(step: &'static str) {
    counter!(SNAPSHOTS, "step" => step).increment(1);
}

pub(super) fn snapshot_bytes(step: &'static str, bytes: usize) {
    counter!(SNAPSHOT_BYTES, "step" => step).increment(bytes as u64);
}

/// How many snapshots a node sends.
pub(super) fn snapshots_sending(node: NodeId) -> Gauge {
    gauge!(SNAPSHOTS_SENDING, "node" => node.to_string())
}

pub(super) fn disk_failure() {
    counter!(DISK_FAILURES).increment(1);
}
