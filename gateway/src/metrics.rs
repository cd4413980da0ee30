//! Names, labels and units of this crate's metrics. Labels are small closed sets: never a user, a conversation,
//! a session or an address. What is counted for every message has a handle that is looked up once.

use std::sync::LazyLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics::{describe_counter, describe_gauge, describe_histogram};
use parlance_proto::common::v1::Error;

/// Logged-in sessions.
pub const SESSIONS: &str = "parlance_gateway_sessions";
/// Client connections by `stage`: `accepted` sockets that are not WebSockets yet, `open` WebSockets with or without a
/// login.
pub const CONNECTIONS: &str = "parlance_gateway_connections";
/// Logins by `code` (`ok` or an error code's name).
pub const LOGINS: &str = "parlance_gateway_logins_total";
/// Requests by `kind` (send, history, conversations, mark_read, ping, login, unknown) and `code`.
pub const REQUESTS: &str = "parlance_gateway_requests_total";
/// From a request's having been read to its answer's being queued, by `kind`.
pub const REQUEST_SECONDS: &str = "parlance_gateway_request_seconds";
/// From a push's arrival on a link to a session's socket having taken it; of sixteen one is timed.
pub const DELIVERY_SECONDS: &str = "parlance_gateway_delivery_seconds";
/// Bytes of client messages.
pub const RECEIVED_BYTES: &str = "parlance_gateway_received_bytes_total";
/// Bytes written to clients' sockets, before TLS.
pub const SENT_BYTES: &str = "parlance_gateway_sent_bytes_total";
/// Bytes that wait for sessions to read them, looked at every few seconds.
pub const OUTBOUND_BYTES: &str = "parlance_gateway_outbound_bytes";
/// Connections closed by us, by `reason` (the names in `session/close.rs`).
pub const CLOSED: &str = "parlance_gateway_closed_total";
/// What was refused, left out or cut off because a bound was reached, by `reason` (requests_in_flight, requests,
/// inbound_total, messages_session, messages_user, messages_app, sessions_per_user, logins_per_address,
/// connections_per_address, connections, connections_waiting, outbound_session, outbound_total, not_a_proxy, handshake,
/// link_queue, errors).
pub const REFUSALS: &str = "parlance_gateway_refusals_total";
/// Connections that the system would not let this gateway accept: no file descriptors are left.
pub const ACCEPT_FAILURES: &str = "parlance_gateway_accept_failures_total";
/// Connections that have not logged in, looked at every few seconds.
pub const CONNECTIONS_WAITING: &str = "parlance_gateway_connections_waiting";
/// Bytes of unanswered requests, looked at every few seconds.
pub const INBOUND_BYTES: &str = "parlance_gateway_inbound_bytes";
/// Link to `node`: 1 is up, 0 is down.
pub const LINK_UP: &str = "parlance_gateway_link_up";
/// Nodes of the cluster without a link.
pub const LINKS_DOWN: &str = "parlance_gateway_links_down";
/// How long the oldest frame that `node` has not acknowledged has waited.
pub const LINK_WAITING: &str = "parlance_gateway_link_waiting_seconds";
/// The feature level that all nodes speak, as this gateway has heard.
pub const FEATURE_LEVEL: &str = "parlance_gateway_feature_level";
/// Requests in one link frame.
pub const LINK_BATCH: &str = "parlance_gateway_link_batch_requests";
/// Requests sent once more, by `reason` (no_leader, not_leader, link_down, link_lost, leader_moved,
/// shard_moved, refused).
pub const RETRIES: &str = "parlance_gateway_retries_total";
/// Events and cursors pushed to sessions.
pub const PUSHED: &str = "parlance_gateway_pushed_total";
/// Sessions told to resync.
pub const RESYNCS: &str = "parlance_gateway_resyncs_total";
/// Conversations whose heads were asked for.
pub const HEADS: &str = "parlance_gateway_heads_total";
/// Conversations listed without their heads, since their shard did not answer.
pub const HEADS_UNKNOWN: &str = "parlance_gateway_heads_unknown_total";

/// Handles of what is counted often.
pub(crate) struct Handles {
    pub(crate) sessions: Gauge,
    pub(crate) open: Gauge,
    pub(crate) delivery: Histogram,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) outbound_bytes: Gauge,
    pub(crate) inbound_bytes: Gauge,
    pub(crate) connections_waiting: Gauge,
    pub(crate) link_batch: Histogram,
    pub(crate) pushed: Counter,
    pub(crate) resyncs: Counter,
    accepted: Gauge,
    pub(crate) heads: Counter,
    pub(crate) heads_unknown: Counter,
    sends: Counter,
    send_seconds: Histogram,
}

/// The handles, looked up when they are first needed: a recorder that is installed later misses them.
pub(crate) fn handles() -> &'static Handles {
    static HANDLES: LazyLock<Handles> = LazyLock::new(|| Handles {
        sessions: gauge!(SESSIONS),
        open: gauge!(CONNECTIONS, "stage" => "open"),
        delivery: histogram!(DELIVERY_SECONDS),
        received_bytes: counter!(RECEIVED_BYTES),
        sent_bytes: counter!(SENT_BYTES),
        outbound_bytes: gauge!(OUTBOUND_BYTES),
        inbound_bytes: gauge!(INBOUND_BYTES),
        connections_waiting: gauge!(CONNECTIONS_WAITING),
        link_batch: histogram!(LINK_BATCH),
        pushed: counter!(PUSHED),
        resyncs: counter!(RESYNCS),
        accepted: gauge!(CONNECTIONS, "stage" => "accepted"),
        heads: counter!(HEADS),
        heads_unknown: counter!(HEADS_UNKNOWN),
        sends: counter!(REQUESTS, "kind" => "send", "code" => "ok"),
        send_seconds: histogram!(REQUEST_SECONDS, "kind" => "send"),
    });
    &HANDLES
}

/// A socket that was accepted and is not a WebSocket yet, until dropped.
pub(crate) struct Accepted;

impl Accepted {
    pub(crate) fn new() -> Self {
        handles().accepted.increment(1);
        Self
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        handles().accepted.decrement(1);
    }
}

/// How long a request took, however it was answered.
pub(crate) fn request_took(kind: &'static str, took: Duration) {
    let seconds = took.as_secs_f64();
    if kind == "send" {
        handles().send_seconds.record(seconds);
    } else {
        histogram!(REQUEST_SECONDS, "kind" => kind).record(seconds);
    }
}

/// Counts an answered request.
pub(crate) fn count_request(kind: &'static str, error: Option<&Error>) {
    match error {
        None if kind == "send" => handles().sends.increment(1),
        None => counter!(REQUESTS, "kind" => kind, "code" => "ok").increment(1),
        Some(error) => {
            let code = error.code().name();
            counter!(REQUESTS, "kind" => kind, "code" => code).increment(1);
        }
    }
}

/// Counts a connection that the system would not let this gateway accept.
pub(crate) fn accept_failed() {
    counter!(ACCEPT_FAILURES).increment(1);
}

/// Counts what a bound has refused.
pub(crate) fn refused(reason: &'static str) {
    counter!(REFUSALS, "reason" => reason).increment(1);
}

/// Tells the recorder what each metric means; once, at start.
pub fn describe() {
    parlance_tls::describe();
    describe_gauge!(SESSIONS, Unit::Count, "logged-in sessions");
    describe_gauge!(CONNECTIONS, Unit::Count, "client connections by stage");
    describe_counter!(LOGINS, Unit::Count, "logins by result");
    describe_counter!(REQUESTS, Unit::Count, "requests by kind and result");
    describe_traffic();
    describe_gauge!(
        OUTBOUND_BYTES,
        Unit::Bytes,
        "bytes that wait for sessions to read them"
    );
    describe_counter!(
        CLOSED,
        Unit::Count,
        "connections closed by the gateway, by reason"
    );
    describe_bounds();
    describe_gauge!(LINK_UP, Unit::Count, "link to a node: 1 up, 0 down");
    describe_gauge!(
        LINKS_DOWN,
        Unit::Count,
        "nodes of the cluster without a link"
    );
    describe_gauge!(
        LINK_WAITING,
        Unit::Seconds,
        "how long the oldest frame that a node has not acknowledged has waited"
    );
    describe_gauge!(
        FEATURE_LEVEL,
        Unit::Count,
        "the feature level that all nodes speak"
    );
    describe_histogram!(LINK_BATCH, Unit::Count, "requests in one link frame");
    describe_counter!(RETRIES, Unit::Count, "requests sent once more, by reason");
    describe_counter!(PUSHED, Unit::Count, "events and cursors pushed to sessions");
    describe_counter!(RESYNCS, Unit::Count, "sessions told to resync");
    describe_counter!(
        HEADS,
        Unit::Count,
        "conversations whose heads were asked for, for lists"
    );
    describe_counter!(
        HEADS_UNKNOWN,
        Unit::Count,
        "conversations listed without their heads, since their shard did not answer"
    );
}

fn describe_bounds() {
    describe_counter!(
        REFUSALS,
        Unit::Count,
        "refused, left out or cut off because a bound was reached, by reason"
    );
    describe_counter!(
        ACCEPT_FAILURES,
        Unit::Count,
        "connections that the system would not let this gateway accept, as without file descriptors"
    );
    describe_gauge!(
        CONNECTIONS_WAITING,
        Unit::Count,
        "connections that have not logged in"
    );
    describe_gauge!(INBOUND_BYTES, Unit::Bytes, "bytes of unanswered requests");
}

fn describe_traffic() {
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "from a request's having been read to its answer's being queued, by kind"
    );
    describe_histogram!(
        DELIVERY_SECONDS,
        Unit::Seconds,
        "from a push's arrival on a link to a session's socket having taken it; of sixteen one is timed"
    );
    describe_counter!(RECEIVED_BYTES, Unit::Bytes, "bytes of client messages");
    describe_counter!(
        SENT_BYTES,
        Unit::Bytes,
        "bytes written to clients' sockets, before TLS"
    );
}
