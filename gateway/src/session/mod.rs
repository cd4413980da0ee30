//! Sessions of this gateway: who is logged in on which connection, and what waits to be written to each. Knows no
//! wire: what is queued is encoded by the endpoint that serves the connection.

mod chains;
mod close;
mod deadlines;
mod in_flight;
mod push;
mod queue;
mod registry;
mod roll;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use parlance_proto::ids::{AppId, UserId};
use parlance_proto::slot::Slot;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

pub use chains::Chains;
pub use close::CloseReason;
pub use deadlines::Deadlines;
pub use in_flight::{InFlight, Unanswered};
pub use push::{Dialect, Push};
pub use queue::{Item, Outbound};
pub use registry::Registry;

use crate::bounds::SessionRates;
use crate::token::Grant;

/// A user of an app.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    pub app: AppId,
    pub id: UserId,
}

impl User {
    /// The slot of the user's home.
    pub fn home(&self) -> Slot {
        Slot::of_user(&self.app, &self.id)
    }
}

/// Who asks.
#[derive(Debug)]
pub struct Caller {
    pub user: User,
    /// The app as the login called it: tokens of some formats are only good under that name.
    pub app_called: String,
    /// The session.
    pub session: Uuid,
    /// By what token, which may be renewed.
    pub standing: Mutex<Standing>,
    /// What the login has agreed on.
    pub agreed: Agreed,
    /// What the client said of itself.
    pub device: Device,
    /// Since when, in ms since 1970 UTC.
    pub since_ms: i64,
    /// The unanswered requests.
    pub in_flight: InFlight,
    /// Sends that were refused for the moment.
    pub chains: Chains,
    /// Reads run by turns.
    pub reads: Semaphore,
    /// How fast this session, its user and its app may ask.
    pub rates: SessionRates,
}

/// The token that a session stands on.
#[derive(Debug)]
pub struct Standing {
    /// The newest one.
    pub grant: Grant,
    /// Up to which change of the apps the login was checked: a kick behind it ends the session, whatever the token.
    pub since: u64,
    /// When the session ends, unless it is renewed.
    pub ends: Instant,
    /// The client was told that it ends.
    pub warned: bool,
    /// The session's entry in the table of deadlines.
    pub due: Option<Instant>,
}

/// What a client says of itself: free texts, for people.
#[derive(Debug, Clone, Default)]
pub struct Device {
    pub platform: String,
    pub device_id: String,
    pub client_version: String,
}

/// What both ends of a connection speak.
#[derive(Debug, Clone)]
pub struct Agreed {
    /// The version of the endpoint's protocol.
    pub protocol: u32,
    /// What both can do beyond it, by name.
    pub capabilities: Vec<&'static str>,
}

/// One connection; a session once its login is answered.
#[derive(Debug)]
pub struct Session {
    /// Names the connection in this process and, once logged in, the session in the cluster.
    pub id: Uuid,
    /// What waits to be written.
    pub outbound: Outbound,
    /// Where the client is, as far as is known.
    pub address: SocketAddr,
    caller: OnceLock<Arc<Caller>>,
}

impl Session {
    /// A connection without a login.
    #[allow(
        clippy::disallowed_methods,
        reason = "no two sessions of a cluster may have one id"
    )]
    pub fn new(outbound: Outbound, address: SocketAddr) -> Self {
        Self {
            id: Uuid::new_v4(),
            outbound,
            address,
            caller: OnceLock::new(),
        }
    }

    /// Who is logged in.
    pub fn caller(&self) -> Option<&Arc<Caller>> {
        self.caller.get()
    }

    /// The login succeeded; the first one stays.
    pub fn log_in(&self, caller: Caller) -> &Arc<Caller> {
        self.caller.get_or_init(|| Arc::new(caller))
    }

    /// Resolves when no request is unanswered.
    pub async fn settled(&self) {
        if let Some(caller) = self.caller() {
            caller.in_flight.settled().await;
        }
    }
}

#[cfg(test)]
impl Session {
    /// A connection with a memory of its own.
    pub fn alone() -> Self {
        let outbound = Outbound::new(1 << 20, 100, &crate::bounds::Budget::new(1 << 20));
        Self::new(outbound, ([127, 0, 0, 1], 1).into())
    }
}
