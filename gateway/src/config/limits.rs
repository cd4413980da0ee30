//! Bounds on what clients may use: each with its unit, default and range.

use std::num::NonZeroU32;
use std::time::Duration;

use parlance_proto::limits::{FRAME_BYTES_MAX, MESSAGES_PER_SECOND_MAX};
use serde::{Deserialize, Serialize};

/// Bounds on what clients may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of one client frame. Default: 65536. Range: 1024 to 4194304.
    pub frame_bytes_max: usize,
    /// Bytes that a connection may send before it is logged in. Default: 8192. Range: 1024 to 65536.
    pub before_login_bytes_max: usize,
    /// Unanswered requests of one session. Default: 128. Range: 1 to 10000.
    pub requests_in_flight_max: u32,
    /// Reads of one session at a time: history and lists. Others wait. Default: 4. Range: 1 to 1000.
    pub reads_in_flight_max: u32,
    /// Bytes of all unanswered requests of all sessions. Default: 268435456. Range: 1048576 to 68719476736.
    pub inbound_total_bytes_max: usize,
    /// Bytes that wait for a session to read them. Above it, events are left out and the session fetches them.
    /// Default: 1048576. Range: 65536 to 268435456. One frame always fits.
    pub outbound_bytes_max: usize,
    /// Frames that wait for a session to read them, likewise. Default: 8192. Range: 16 to 1000000.
    pub outbound_frames_max: usize,
    /// Bytes that wait for all sessions; above it, those with the most are cut off. Default: 536870912.
    /// Range: 1048576 to 68719476736.
    pub outbound_total_bytes_max: usize,
    /// Messages a second of one session, unless its app's limits say otherwise. Default: 10. Range: 1 to 1000000.
    pub messages_per_second: NonZeroU32,
    /// Messages a second of one user, likewise. Default: 20. Range: 1 to 1000000.
    pub user_messages_per_second: NonZeroU32,
    /// Messages a second of all users of one app, likewise. Default: 10000. Range: 1 to 1000000.
    pub app_messages_per_second: NonZeroU32,
    /// Requests a second of one session, of whatever kind but messages. Default: 100. Range: 1 to 1000000.
    pub requests_per_second: NonZeroU32,
    /// Sessions of one user; the newest stay. Default: 20. Range: 1 to 1000000.
    pub sessions_per_user_max: usize,
    /// Connections a second of one address, or of one IPv6 network of 64 bits. Default: 200. Range: 1 to 1000000.
    pub connections_per_address: NonZeroU32,
    /// Logins a second of one address, or of one IPv6 network of 64 bits. Default: 50. Range: 1 to 1000000.
    pub logins_per_address: NonZeroU32,
    /// A silent connection is closed after this many ms; it is pinged half-way. Default: 60000. Range: 1000 to 3600000.
    pub idle_timeout_ms: u64,
    /// From the connection to a login, in ms. Default: 10000. Range: 100 to 600000.
    pub login_timeout_ms: u64,
    /// PROXY header, TLS handshake and HTTP up to the WebSocket upgrade, in ms each. Default: 5000. Range: 100 to 600000.
    pub upgrade_timeout_ms: u64,
    /// A socket that takes not one byte for so many ms is closed. Default: 20000. Range: 100 to 600000.
    pub write_timeout_ms: u64,
    /// A request is retried for this many ms. Default: 10000. Range: 100 to 600000.
    pub request_timeout_ms: u64,
    /// Open client connections. Default: 100000. Range: 1 to 10000000.
    pub connections_max: usize,
    /// Connections without a login, of those; the longest waiting gives way to the newest. Default: 10000.
    /// Range: 1 to 10000000.
    pub connections_waiting_max: usize,
    /// A session is told that its token ends so many ms before; 0 tells nobody. Default: 30000. Range: 0 to 3600000.
    pub token_warning_ms: u64,
    /// How long a stop serves all clients, new ones too, once it is not ready any more, in ms. Default: 5000.
    /// Range: 0 to 600000.
    pub lame_duck_ms: u64,
    /// How long a stop then serves those who are told to go elsewhere, in ms. Default: 10000. Range: 0 to 3600000.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_MAX,
            before_login_bytes_max: 8192,
            requests_in_flight_max: 128,
            reads_in_flight_max: 4,
            inbound_total_bytes_max: 256 << 20,
            outbound_bytes_max: 1024 * 1024,
            outbound_frames_max: 8192,
            outbound_total_bytes_max: 512 << 20,
            messages_per_second: per_second(10),
            user_messages_per_second: per_second(20),
            app_messages_per_second: per_second(10_000),
            requests_per_second: per_second(100),
            sessions_per_user_max: 20,
            connections_per_address: per_second(200),
            logins_per_address: per_second(50),
            idle_timeout_ms: 60_000,
            login_timeout_ms: 10_000,
            upgrade_timeout_ms: 5000,
            write_timeout_ms: 20_000,
            request_timeout_ms: 10_000,
            connections_max: 100_000,
            connections_waiting_max: 10_000,
            token_warning_ms: 30_000,
            lame_duck_ms: 5000,
            drain_ms: 10_000,
        }
    }
}

fn per_second(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

/// A setting, its value, the least and the most.
type Row = (&'static str, u64, (u64, u64));

impl Limits {
    pub(super) fn faults(&self, faults: &mut Vec<String>) {
        let rows = self.sizes().into_iter().chain(self.rates());
        for (key, value, (min, max)) in rows.chain(self.times()) {
            if !(min..=max).contains(&value) {
                faults.push(format!("limits.{key}: {value} is outside {min} to {max}"));
            }
        }
    }

    fn sizes(&self) -> [Row; 11] {
        const TOTAL: (u64, u64) = (1 << 20, 64 << 30);
        const CONNECTIONS: (u64, u64) = (1, 10_000_000);
        let row = |key, value: usize, range| (key, value as u64, range);
        let requests = self.requests_in_flight_max as usize;
        let before_login = self.before_login_bytes_max;
        let waiting = self.connections_waiting_max;
        let reads = self.reads_in_flight_max as usize;
        [
            row("frame_bytes_max", self.frame_bytes_max, (1024, 4 << 20)),
            row("before_login_bytes_max", before_login, (1024, 65_536)),
            row("requests_in_flight_max", requests, (1, 10_000)),
            row("reads_in_flight_max", reads, (1, 1000)),
            row(
                "inbound_total_bytes_max",
                self.inbound_total_bytes_max,
                TOTAL,
            ),
            row(
                "outbound_bytes_max",
                self.outbound_bytes_max,
                (65_536, 256 << 20),
            ),
            row(
                "outbound_frames_max",
                self.outbound_frames_max,
                (16, 1_000_000),
            ),
            row(
                "outbound_total_bytes_max",
                self.outbound_total_bytes_max,
                TOTAL,
            ),
            row(
                "sessions_per_user_max",
                self.sessions_per_user_max,
                (1, 1_000_000),
            ),
            row("connections_max", self.connections_max, CONNECTIONS),
            row("connections_waiting_max", waiting, CONNECTIONS),
        ]
    }

    fn rates(&self) -> [Row; 6] {
        [
            ("messages_per_second", self.messages_per_second),
            ("user_messages_per_second", self.user_messages_per_second),
            ("app_messages_per_second", self.app_messages_per_second),
            ("requests_per_second", self.requests_per_second),
            ("connections_per_address", self.connections_per_address),
            ("logins_per_address", self.logins_per_address),
        ]
        .map(|(key, rate)| (key, rate.get().into(), (1, MESSAGES_PER_SECOND_MAX.into())))
    }

    fn times(&self) -> [Row; 8] {
        const TIMEOUT: (u64, u64) = (100, 600_000);
        [
            ("idle_timeout_ms", self.idle_timeout_ms, (1000, 3_600_000)),
            ("login_timeout_ms", self.login_timeout_ms, TIMEOUT),
            ("upgrade_timeout_ms", self.upgrade_timeout_ms, TIMEOUT),
            ("write_timeout_ms", self.write_timeout_ms, TIMEOUT),
            ("request_timeout_ms", self.request_timeout_ms, TIMEOUT),
            ("token_warning_ms", self.token_warning_ms, (0, 3_600_000)),
            ("lame_duck_ms", self.lame_duck_ms, (0, 600_000)),
            ("drain_ms", self.drain_ms, (0, 3_600_000)),
        ]
    }

    pub(crate) fn lame_duck(&self) -> Duration {
        Duration::from_millis(self.lame_duck_ms)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    pub(crate) fn token_warning(&self) -> Duration {
        Duration::from_millis(self.token_warning_ms)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) fn login_timeout(&self) -> Duration {
        Duration::from_millis(self.login_timeout_ms)
    }

    pub(crate) fn upgrade_timeout(&self) -> Duration {
        Duration::from_millis(self.upgrade_timeout_ms)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
}
