//! A Parlance node: stores conversations, puts their events in one order, and replicates them by Raft.
//!
//! The way of a message through this crate:
//!
//! 1. `link/service.rs` reads a batch of requests from a gateway's link, `link/request.rs` checks each and takes it to
//!    its shard.
//! 2. `shard/proposer.rs` gathers commands while one entry is in flight and proposes them as the next entry.
//! 3. `raft/` appends it to the log (`group_commit.rs`: one fsync for all groups) and sends it to the followers.
//! 4. `raft/state_machine.rs` gives committed entries to `apply/`, which gives each message its seq and writes one
//!    batch of rows to `store/`.
//! 5. `shard/proposer.rs` answers each sender; `deliver/relay.rs` takes the event from the outbox to the home shards
//!    of the members, where `deliver/home.rs` pushes it to the gateways through `link/session.rs`.
//!
//! Beside that: `meta/` has the cluster map and the apps, `placement.rs` makes groups what the map wants, `admin/`
//! serves operators, `member.rs` is a node inside a cluster and `server.rs` the node as a whole.
//!
//! A node knows nothing of WebSockets, tokens or vendors, and does no logging set-up, signals or files of settings:
//! that is the program's.

mod admin;
mod apply;
mod clock;
mod config;
mod deliver;
mod digest;
mod directory;
mod error;
mod identity;
mod link;
mod member;
mod meta;
mod metrics;
mod placement;
pub mod raft;
mod seeds;
mod server;
mod shard;
mod store;

#[cfg(test)]
mod measure;

pub use config::Config;
pub use error::StartError;
pub use server::Node;
