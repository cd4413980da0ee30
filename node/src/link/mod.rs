//! The gateways' side of a node: long-lived links with batches both ways, and the cluster's state as a stream.
//!
//! `service.rs` accepts and authenticates, `session.rs` is one link session that survives short breaks, `registry.rs`
//! has them all, `request.rs` takes each request to its shard.

mod registry;
mod request;
mod service;
mod session;
mod watch;

pub use registry::Links;
pub use service::{LinkService, role_of_peer};
pub use session::{LinkSession, Receipt};
