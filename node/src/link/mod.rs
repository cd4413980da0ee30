//! The gateways' side of a node: long-lived links with batches both ways. What a request means is `api/`'s business.
//!
//! `listen.rs` takes connections, `service.rs` accepts links and says who may, `carry.rs` carries one over a
//! stream, `session.rs` is one link session that survives short breaks, `registry.rs` has them all, `turns.rs` lets reads
//! wait, `held.rs` is what all links together may hold. `questions.rs` is what operators ask of gateways, beside the links.

mod carry;
mod held;
mod listen;
mod questions;
mod registry;
mod service;
mod session;
mod turns;

pub use listen::incoming;
pub use questions::Gateways;
pub use registry::Links;
pub use service::{LinkService, certificate_of_peer, role_of_peer};
pub use session::{LinkSession, Receipt};
pub use turns::Turn;

/// For tests of other folders: a session that is open, and one that was.
#[cfg(test)]
pub(crate) fn open_and_closed() -> [std::sync::Arc<LinkSession>; 2] {
    let hello = parlance_proto::link::v1::Hello::default();
    let session = |key: u64| LinkSession::new(key, &hello, &held::Held::new(1 << 30));
    let [open, closed] = [1, 2].map(session).map(std::sync::Arc::new);
    closed.close();
    [open, closed]
}
