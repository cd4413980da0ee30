//! Certificates of a running process: read again when their files change, watched until they end, and the connections
//! that others have made with theirs.
//!
//! - [`Followed`] is what some files hold, as it is now; [`ClusterTls`] is that of a process's cluster certificate,
//!   with the list of those that are denied.
//! - [`Connections`] cuts the connections of whoever is denied later.
//! - [`Seldom`] keeps whoever is refused from filling the log.
//!
//! Who a certificate speaks for, and how a handshake is checked, is in `parlance_proto::tls`.

mod cluster;
mod connections;
mod expiry;
mod follow;
mod metrics;
mod seldom;

pub use cluster::ClusterTls;
pub use connections::{Connections, Watched, serial_of};
pub use expiry::Expires;
pub use follow::Followed;
pub use metrics::describe;
pub use seldom::Seldom;
