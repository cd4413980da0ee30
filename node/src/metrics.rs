//! The metrics of a node, except those of Raft (`raft/metrics.rs`). Labels are small closed sets: shards, error codes
//! and reasons; never users, conversations or addresses.

use std::time::Duration;

use metrics::{
    Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use parlance_proto::common::v1::ErrorCode;
use parlance_proto::ids::ShardId;

const SHARD_LEADING: &str = "parlance_node_shard_leading";
const SHARD_TERM: &str = "parlance_node_shard_term";
const SHARD_APPLIED: &str = "parlance_node_shard_applied_index";
const COMMIT_SECONDS: &str = "parlance_node_commit_seconds";
const PROPOSAL_COMMANDS: &str = "parlance_node_proposal_commands";
const PROPOSALS_REFUSED: &str = "parlance_node_proposals_refused_total";
const REQUESTS_REFUSED: &str = "parlance_node_requests_refused_total";
const RELAYED: &str = "parlance_node_relayed_total";
const RELAYS_RETRIED: &str = "parlance_node_relays_retried_total";
const OUTBOX_FAILURES: &str = "parlance_node_outbox_read_failures_total";
const LINKS: &str = "parlance_node_links";
const LINKS_CLOSED: &str = "parlance_node_links_closed_total";
const LINK_RESPONSES: &str = "parlance_node_link_frame_responses";
const LINK_PUBLISHES: &str = "parlance_node_link_frame_publishes";

/// Tells the recorder what the metrics mean. Called once, at start.
pub fn describe() {
    describe_gauge!(
        SHARD_LEADING,
        "1 if this node leads the shard (labels node, shard)"
    );
    describe_gauge!(
        SHARD_TERM,
        "Raft term of the shard as this node knows it (labels node, shard)"
    );
    describe_gauge!(
        SHARD_APPLIED,
        "index of the last entry applied on this node (labels node, shard)"
    );
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "from proposing an entry to its being applied (label shard)"
    );
    describe_histogram!(
        PROPOSAL_COMMANDS,
        Unit::Count,
        "commands in a proposed entry (label shard)"
    );
    describe_counter!(
        PROPOSALS_REFUSED,
        "commands refused because a shard's queue was full"
    );
    describe_counter!(
        REQUESTS_REFUSED,
        "requests answered with an error (label code)"
    );
    describe_counter!(RELAYED, "items that reached a home shard and its gateways");
    describe_counter!(RELAYS_RETRIED, "batches of items that had to be sent again");
    describe_counter!(
        OUTBOX_FAILURES,
        "tries to read a shard's outbox that the disk failed; its pushes wait meanwhile"
    );
    describe_gauge!(LINKS, "link sessions of gateways");
    describe_counter!(
        LINKS_CLOSED,
        "link sessions ended (label reason: too_slow, replaced, not_resumed)"
    );
    describe_histogram!(
        LINK_RESPONSES,
        Unit::Count,
        "responses in one frame to a gateway"
    );
    describe_histogram!(
        LINK_PUBLISHES,
        Unit::Count,
        "events in one frame to a gateway"
    );
}

pub(crate) fn shard(node: &str, shard: &str, leading: bool, term: u64, applied: u64) {
    let labels = [("node", node.to_owned()), ("shard", shard.to_owned())];
    gauge!(SHARD_LEADING, &labels).set(f64::from(u8::from(leading)));
    gauge!(SHARD_TERM, &labels).set(term as f64);
    gauge!(SHARD_APPLIED, &labels).set(applied as f64);
}

/// The histograms of one shard's proposer, looked up once.
pub(crate) struct ProposerMetrics {
    commit_seconds: Histogram,
    commands: Histogram,
}

impl ProposerMetrics {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self {
            commit_seconds: histogram!(COMMIT_SECONDS, "shard" => shard.to_string()),
            commands: histogram!(PROPOSAL_COMMANDS, "shard" => shard.to_string()),
        }
    }

    pub(crate) fn proposed(&self, commands: usize) {
        self.commands.record(commands as f64);
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.commit_seconds.record(took.as_secs_f64());
    }
}

pub(crate) fn proposals_refused() {
    counter!(PROPOSALS_REFUSED).increment(1);
}

pub(crate) fn request_refused(code: ErrorCode) {
    counter!(REQUESTS_REFUSED, "code" => code.name()).increment(1);
}

pub(crate) fn relayed(items: usize) {
    counter!(RELAYED).increment(items as u64);
}

pub(crate) fn relay_retried() {
    counter!(RELAYS_RETRIED).increment(1);
}

pub(crate) fn outbox_read_failed() {
    counter!(OUTBOX_FAILURES).increment(1);
}

pub(crate) fn links(count: usize) {
    gauge!(LINKS).set(count as f64);
}

pub(crate) fn link_closed(reason: &'static str) {
    counter!(LINKS_CLOSED, "reason" => reason).increment(1);
}

pub(crate) fn link_frame(responses: usize, publishes: usize) {
    histogram!(LINK_RESPONSES).record(responses as f64);
    histogram!(LINK_PUBLISHES).record(publishes as f64);
}
