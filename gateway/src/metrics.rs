//! Names, labels and units of this crate's metrics. Labels are small closed sets: never a user, a conversation,
//! a session or an address.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Logged-in sessions.
pub const SESSIONS: &str = "parlance_gateway_sessions";
/// Open client connections.
pub const CONNECTIONS: &str = "parlance_gateway_connections";
/// Logins by `code` (`ok` or an error code's name).
pub const LOGINS: &str = "parlance_gateway_logins_total";
/// Requests by `kind` (send, history, conversations, mark_read, ping, login, unknown) and `code`.
pub const REQUESTS: &str = "parlance_gateway_requests_total";
/// Bytes that wait for sessions to read them.
pub const OUTBOUND_BYTES: &str = "parlance_gateway_outbound_bytes";
/// Connections closed by us, by `reason` (the names in `ws/close.rs`).
pub const CLOSED: &str = "parlance_gateway_closed_total";
/// Link to `node`: 1 is up, 0 is down.
pub const LINK_UP: &str = "parlance_gateway_link_up";
/// Requests in one link frame.
pub const LINK_BATCH: &str = "parlance_gateway_link_batch_requests";
/// Requests sent once more, by `reason` (no_leader, not_leader, link_down, link_lost, leader_moved, refused).
pub const RETRIES: &str = "parlance_gateway_retries_total";
/// Events and cursors pushed to sessions.
pub const PUSHED: &str = "parlance_gateway_pushed_total";
/// Sessions told to resync.
pub const RESYNCS: &str = "parlance_gateway_resyncs_total";

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
    describe_histogram!(LINK_BATCH, Unit::Count, "requests in one link frame");
    describe_counter!(RETRIES, Unit::Count, "requests sent once more, by reason");
    describe_counter!(PUSHED, Unit::Count, "events and cursors pushed to sessions");
    describe_counter!(RESYNCS, Unit::Count, "sessions told to resync");
}
