//! The metrics of a node, except those of Raft (`raft/metrics.rs`). Labels are small closed sets: nodes, error codes and
//! reasons; never users, conversations or addresses. One counter alone is of one shard: which of them has the load.
//! What is measured every second is in `figures.rs`.

mod figures;

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use parlance_proto::common::v1::ErrorCode;
use parlance_proto::ids::{NodeId, ShardId};

pub(crate) use figures::{NodeFigures, ReplicaCounts};

const SHARD_COMMANDS: &str = "parlance_node_shard_commands_total";
const COMMIT_SECONDS: &str = "parlance_node_commit_seconds";
const PROPOSAL_COMMANDS: &str = "parlance_node_proposal_commands";
const PROPOSALS_REFUSED: &str = "parlance_node_proposals_refused_total";
const DISK_FULL: &str = "parlance_node_disk_full_refused_total";
const REQUESTS_REFUSED: &str = "parlance_node_requests_refused_total";
const DELIVERY_SECONDS: &str = "parlance_node_delivery_seconds";
const READS_REFUSED: &str = "parlance_node_reads_refused_total";
const ANSWERS_REFUSED: &str = "parlance_node_answers_too_large_total";
const RELAYED: &str = "parlance_node_relayed_total";
const RELAYS_RETRIED: &str = "parlance_node_relays_retried_total";
const RELAYS_SET_ASIDE: &str = "parlance_node_relays_set_aside_total";
const HOMES_PARKED: &str = "parlance_node_home_shards_parked";
const OUTBOX_FAILURES: &str = "parlance_node_outbox_read_failures_total";
const LINKS_CLOSED: &str = "parlance_node_links_closed_total";
const LINKS_REFUSED: &str = "parlance_node_links_refused_total";
const CONNECTIONS_REFUSED: &str = "parlance_node_connections_refused_total";
const ACCEPT_FAILURES: &str = "parlance_node_accept_failures_total";
const LINK_RESPONSES: &str = "parlance_node_link_frame_responses";
const LINK_PUBLISHES: &str = "parlance_node_link_frame_publishes";
const AUDITED: &str = "parlance_node_audited_total";

/// Tells the recorder what the metrics mean. Called once, at start.
pub fn describe() {
    figures::describe();
    describe_doors();
    describe_counter!(
        SHARD_COMMANDS,
        "commands that this node proposed as the shard's leader (label shard)"
    );
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "from proposing an entry to its being applied"
    );
    describe_histogram!(
        PROPOSAL_COMMANDS,
        Unit::Count,
        "commands in a proposed entry"
    );
    describe_counter!(
        PROPOSALS_REFUSED,
        "commands refused because a shard's queue was full"
    );
    describe_counter!(
        DISK_FULL,
        "commands refused because the disk is nearly full"
    );
    describe_counter!(
        REQUESTS_REFUSED,
        "requests answered with an error (label code)"
    );
    describe_histogram!(
        DELIVERY_SECONDS,
        Unit::Seconds,
        "from an event's being committed to every gateway with its users having it"
    );
    describe_counter!(RELAYED, "items that reached a home shard and its gateways");
    describe_counter!(RELAYS_RETRIED, "batches of items that had to be sent again");
    describe_counter!(
        RELAYS_SET_ASIDE,
        "items for home shards that take nothing, read from the outbox again once they do"
    );
    describe_gauge!(
        HOMES_PARKED,
        "home shards that take nothing, or not what they cannot write: those pushes wait"
    );
    describe_counter!(
        OUTBOX_FAILURES,
        "tries to read a shard's outbox that the disk failed; its pushes wait meanwhile"
    );
    describe_links();
    describe_counter!(
        AUDITED,
        "changes by operators and readings of secrets (labels action, outcome)"
    );
}

fn describe_links() {
    describe_counter!(
        READS_REFUSED,
        "reads refused because too many of their gateway waited"
    );
    describe_counter!(
        ANSWERS_REFUSED,
        "answers that no frame can carry, replaced by an error"
    );
    describe_counter!(
        LINKS_CLOSED,
        "link sessions ended (label reason: too_slow, held_total, replaced, not_resumed, unreadable)"
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

fn describe_doors() {
    parlance_tls::describe();
    describe_counter!(
        LINKS_REFUSED,
        "links refused (label reason: role, other_gateway, in_use)"
    );
    describe_counter!(
        CONNECTIONS_REFUSED,
        "connections of gateways and operators refused (label reason: handshake, timeout, too_many)"
    );
    describe_counter!(
        ACCEPT_FAILURES,
        "connections that the system would not let this node accept, as without file descriptors"
    );
}

pub(crate) fn audited(action: &'static str, outcome: &str) {
    counter!(AUDITED, "action" => action, "outcome" => outcome.to_owned()).increment(1);
}

/// What one shard's proposer counts, looked up once.
pub(crate) struct ProposerMetrics {
    shard: ShardId,
    /// None until it has proposed anything: only shards that were led here have a series.
    of_shard: Option<Counter>,
    commit_seconds: Histogram,
    commands: Histogram,
}

impl ProposerMetrics {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self {
            shard,
            of_shard: None,
            commit_seconds: histogram!(COMMIT_SECONDS),
            commands: histogram!(PROPOSAL_COMMANDS),
        }
    }

    pub(crate) fn proposed(&mut self, commands: usize) {
        self.commands.record(commands as f64);
        let shard = self.shard;
        let of_shard = || counter!(SHARD_COMMANDS, "shard" => shard.to_string());
        let counter = self.of_shard.get_or_insert_with(of_shard);
        counter.increment(commands as u64);
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.commit_seconds.record(took.as_secs_f64());
    }
}

pub(crate) fn proposals_refused() {
    counter!(PROPOSALS_REFUSED).increment(1);
}

pub(crate) fn disk_full() {
    counter!(DISK_FULL).increment(1);
}

pub(crate) fn request_refused(code: ErrorCode) {
    counter!(REQUESTS_REFUSED, "code" => code.name()).increment(1);
}

pub(crate) fn delivered(took: Duration) {
    histogram!(DELIVERY_SECONDS).record(took.as_secs_f64());
}

pub(crate) fn read_refused() {
    counter!(READS_REFUSED).increment(1);
}

pub(crate) fn answer_too_large() {
    counter!(ANSWERS_REFUSED).increment(1);
}

pub(crate) fn relayed(items: usize) {
    counter!(RELAYED).increment(items as u64);
}

pub(crate) fn relay_retried() {
    counter!(RELAYS_RETRIED).increment(1);
}

pub(crate) fn relay_set_aside() {
    counter!(RELAYS_SET_ASIDE).increment(1);
}

pub(crate) fn homes_parked(node: NodeId, why: &'static str) -> Gauge {
    gauge!(HOMES_PARKED, "node" => node.to_string(), "why" => why)
}

pub(crate) fn outbox_read_failed() {
    counter!(OUTBOX_FAILURES).increment(1);
}

pub(crate) fn link_closed(reason: &'static str) {
    counter!(LINKS_CLOSED, "reason" => reason).increment(1);
}

pub(crate) fn link_refused(reason: &'static str) {
    counter!(LINKS_REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn connection_refused(reason: &'static str) {
    counter!(CONNECTIONS_REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn accept_failed() {
    counter!(ACCEPT_FAILURES).increment(1);
}

pub(crate) fn link_frame(responses: usize, publishes: usize) {
    histogram!(LINK_RESPONSES).record(responses as f64);
    histogram!(LINK_PUBLISHES).record(publishes as f64);
}
