//! Names, labels and units of this crate's metrics. Labels are small closed sets: never a user, a conversation,
//! a session or an address. What is counted for every message has a handle that is looked up once.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics::{describe_counter, describe_gauge, describe_histogram};
use parlance_proto::common::v1::Error;

/// Logged-in sessions.
pub const SESSIONS: &str = "parlance_gateway_sessions";
/// Open client connections.
pub const CONNECTIONS: &str = "parlance_gateway_connections";
/// Logins by `code` (`ok` or an error code's name).
pub const LOGINS: &str = "parlance_gateway_logins_total";
/// Requests by `kind` (send, history, conversations, mark_read, ping, login, unknown) and `code`.
pub const REQUESTS: &str = "parlance_gateway_requests_total";
/// Bytes that wait for sessions to read them, looked at every few seconds.
pub const OUTBOUND_BYTES: &str = "parlance_gateway_outbound_bytes";
/// Connections closed by us, by `reason` (the names in `session/close.rs`).
pub const CLOSED: &str = "parlance_gateway_closed_total";
/// Link to `node`: 1 is up, 0 is down.
pub const LINK_UP: &str = "parlance_gateway_link_up";
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

/// Handles of what is counted often.
pub(crate) struct Handles {
    pub(crate) sessions: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) outbound_bytes: Gauge,
    pub(crate) link_batch: Histogram,
    pub(crate) pushed: Counter,
    pub(crate) resyncs: Counter,
    sends: Counter,
}

/// The handles, looked up when they are first needed: a recorder that is installed later misses them.
pub(crate) fn handles() -> &'static Handles {
    static HANDLES: LazyLock<Handles> = LazyLock::new(|| Handles {
        sessions: gauge!(SESSIONS),
        connections: gauge!(CONNECTIONS),
        outbound_bytes: gauge!(OUTBOUND_BYTES),
        link_batch: histogram!(LINK_BATCH),
        pushed: counter!(PUSHED),
        resyncs: counter!(RESYNCS),
        sends: counter!(REQUESTS, "kind" => "send", "code" => "ok"),
    });
    &HANDLES
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

/// Tells the recorder what each metric means; once, at start.
pub fn describe() {
    describe_gauge!(SESSIONS, Unit::Count, "logged-in sessions");
    describe_gauge!(CONNECTIONS, Unit::Count, "open client connections");
    describe_counter!(LOGINS, Unit::Count, "logins by result");
    describe_counter!(REQUESTS, Unit::Count, "requests by kind and result");
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
    describe_gauge!(LINK_UP, Unit::Count, "link to a node: 1 up, 0 down");
    describe_gauge!(
        FEATURE_LEVEL,
        Unit::Count,
        "the feature level that all nodes speak"
    );
    describe_histogram!(LINK_BATCH, Unit::Count, "requests in one link frame");
    describe_counter!(RETRIES, Unit::Count, "requests sent once more, by reason");
    describe_counter!(PUSHED, Unit::Count, "events and cursors pushed to sessions");
    describe_counter!(RESYNCS, Unit::Count, "sessions told to resync");
}
