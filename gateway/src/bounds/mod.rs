//! What this gateway's clients may take, each and all together: bytes of memory, messages and logins a second, places for
//! connections without a login. Whoever asks for more is refused, and counted; nobody else notices.
//!
//! Each gateway counts for itself: a user with sessions on two gateways has the limit of each.

mod addresses;
mod bucket;
mod memory;
mod patience;
mod rates;
mod waiting;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parlance_proto::common::v1::Error;

pub use addresses::Addresses;
pub use memory::{Budget, Charge};
pub use patience::Patience;
pub use rates::{Rates, SessionRates};
pub use waiting::{Place, Waiting};

use crate::config::Limits;
use crate::metrics::refused;

/// The bounds of one gateway.
pub struct Bounds {
    /// What clients have asked for and have no answer to, in bytes.
    pub inbound: Arc<Budget>,
    /// What waits for clients to read it, in bytes.
    pub outbound: Arc<Budget>,
    /// How fast sessions, users and apps may ask.
    pub rates: Rates,
    /// How fast an address may connect.
    pub connections: Addresses,
    /// How fast an address may log in.
    pub logins: Addresses,
    /// Connections that have not logged in.
    pub waiting: Arc<Waiting>,
}

impl Bounds {
    /// The bounds that the settings name.
    pub fn new(limits: &Limits) -> Self {
        Self {
            inbound: Budget::new(limits.inbound_total_bytes_max),
            outbound: Budget::new(limits.outbound_total_bytes_max),
            rates: Rates::new(limits),
            connections: Addresses::connections(limits.connections_per_address),
            logins: Addresses::logins(limits.logins_per_address),
            waiting: Waiting::new(limits.connections_waiting_max),
        }
    }
}

/// A bound that is reached: which one, for the metric, and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The metric's label.
    pub reason: &'static str,
    /// For people.
    pub what: &'static str,
    /// When it may have gone by.
    pub retry_after: Duration,
}

impl Refusal {
    /// Counts it; the error is for the client.
    pub fn count(self) -> Error {
        refused(self.reason);
        Error::overloaded(self.what, self.retry_after)
    }
}

/// What counts as one address: whoever has an IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            octets.into()
        }
    }
}
