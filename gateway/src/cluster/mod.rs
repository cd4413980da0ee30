//! The cluster as this gateway sees it: its state (`topology` with `apps`, fed by `watch`), one link for each node (`links`, `client`,
//! `requests`, `replay`), what operators ask of it (`questions`), and the way of a request to the leader of a slot's shard (`call`). Knows nothing of clients.

mod apps;
mod ask;
mod backoff;
mod call;
mod client;
mod dial;
mod links;
mod questions;
mod replay;
mod requests;
mod slots;
mod topology;
pub mod watch;

pub use ask::Ask;
pub use backoff::Backoff;
pub use call::{Answered, Failure, Place};
pub use links::{LinkState, Router};
pub use slots::SlotMap;
pub use topology::Topology;
