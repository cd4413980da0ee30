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
