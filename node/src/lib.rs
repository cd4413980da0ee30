//! A Parlance node: stores conversations, puts their events in one order, and replicates them by Raft.
//!
//! The path of a message through this crate:
//!
//! 1. `link/service.rs` reads a batch of requests from a gateway's link, and `api/send.rs` makes a command of each.
//! 2. `shard/proposer.rs` gathers commands while one entry is in flight and proposes them as the next entry.
//! 3. `raft/` appends it to the log (`group_commit.rs`: one fsync for all shards) and sends it to the followers.
//! 4. `raft/state_machine.rs` gives committed entries to `apply/`, which gives each message its seq by the rules of
//!    `conversation/`, and writes one batch of rows to `store/`.
//! 5. `shard/` answers each sender; `deliver/outbox_reader.rs` takes the event to the home shards of its audience, where
//!    `deliver/relay_receiver.rs` pushes it to the gateways through `link/session.rs`.
//!
//! Beside that: `meta/` has the cluster map and the apps, `cluster/` is the node's part in its cluster: which replicas
//! it runs, and how shards move and split; `admin/` serves operators, and `server.rs` is the node as a whole.
//!
//! A node knows nothing of WebSockets, tokens or vendors, and does no logging set-up, signals or files of settings:
//! that is the program's.

mod admin;
mod api;
mod apply;
mod audit;
mod clock;
mod cluster;
mod config;
mod conversation;
mod deliver;
mod digest;
mod link;
mod machine;
mod meta;
mod metrics;
pub mod raft;
mod sabotage;
mod server;
mod shard;
mod store;
mod totals;

#[cfg(test)]
mod measure;

pub use cluster::StartError;
pub use config::Config;
pub use server::Node;
