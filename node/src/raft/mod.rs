//! This node's replicas of shards: glue to openraft and quinn, and nothing else. No other folder uses either.
//!
//! A shard is one Raft group. Its entries are applied to a [`StateMachine`](crate::machine::StateMachine); a [`Replica`]
//! is the door to this node's part of one; [`RaftHost`] has all of a node's. Entries go `replica.rs` → `log_store.rs` →
//! `group_commit.rs` to disk and `network.rs` → `peer/` to the other replicas, and once committed through
//! `state_machine.rs` to the state machine.

mod answers;
mod config;
mod convert;
mod election_turns;
mod error;
mod feed;
mod group_commit;
mod host;
mod inbound;
mod log_db;
mod log_read;
mod log_store;
mod log_tail;
mod metrics;
mod network;
mod peer;
mod pulse;
mod purge_gate;
mod read_barrier;
mod replica;
mod replica_start;
mod replica_status;
mod replica_watch;
mod retry;
mod shard_rows;
mod snapshot;
mod snapshot_folder;
mod snapshot_receive;
mod snapshot_send;
mod state_machine;
mod types;

#[cfg(test)]
pub(crate) mod tests;

pub use config::RaftConfig;
pub use error::{MembershipError, ProposeError, RaftError, ReadError};
pub use group_commit::{Done, GroupCommit, LogEngine, LogWrite};
pub use host::{RaftHost, RaftHostConfig, log_dir};
pub use log_db::{LoadedRows, TornLog};
pub use peer::{
    Directory, Lane, LocalIdentity, PeerAsk, PeerError, PeerHandler, PeerLink, QuicConfig,
    QuicLink, RaftInbound, ask,
};
pub use replica::{Applied, Leadership, Replica};
pub use replica_status::ReplicaStatus;
pub use shard_rows::ReadRows;
