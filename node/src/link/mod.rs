//! The gateways' side of a node: long-lived links with batches both ways. What a request means is `api/`'s business.
//!
//! `service.rs` accepts and authenticates, `session.rs` is one link session that survives short breaks, `registry.rs`
//! has them all. `questions.rs` is what operators ask of gateways, beside the links.

mod questions;
mod registry;
mod service;
mod session;

pub use questions::Gateways;
pub use registry::Links;
pub use service::{LinkService, role_of_peer};
pub use session::{LinkSession, Receipt};

/// For tests of other folders: a session that is open, and one that was.
#[cfg(test)]
pub(crate) fn open_and_closed() -> [std::sync::Arc<LinkSession>; 2] {
    let hello = parlance_proto::link::v1::Hello::default();
    let session = |key: u64| LinkSession::new(key, &hello);
    let [open, closed] = [1, 2].map(session).map(std::sync::Arc::new);
    closed.close();
    [open, closed]
}
