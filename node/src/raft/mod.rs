//! Raft groups of this node: glue to openraft and quinn, and nothing else. No other folder uses either.
//!
//! A [`StateMachine`] is what a group applies its entries to; a [`RaftGroup`] is the door to one replica; [`RaftHost`]
//! has all of a node's. Entries go `group.rs` → `log_store.rs` → `group_commit.rs` to disk and `network.rs` → `peer/` to
//! the other replicas, and once committed through `state_machine.rs` to the [`StateMachine`].

mod config;
mod convert;
mod error;
mod group;
mod group_commit;
mod host;
mod log_db;
mod log_store;
pub mod metrics;
mod network;
mod peer;
mod purge_gate;
mod snapshot;
mod snapshot_receive;
mod state_machine;
mod types;

#[cfg(test)]
pub(crate) mod tests;

use bytes::Bytes;

use crate::apply::Outcome;
use crate::store::{StoreError, WriteSet};

pub use config::RaftConfig;
pub use error::{MembershipError, ProposeError, RaftError, ReadError};
pub use group::{Applied, GroupStatus, Leadership, RaftGroup};
pub use group_commit::{Done, GroupCommit, LogEngine, LogWrite};
pub use host::{RaftHost, RaftHostConfig, log_dir};
pub use log_db::{LoadedRows, TornLog};
pub use peer::{
    Directory, Lane, LocalIdentity, PeerError, PeerHandler, PeerLink, QuicConfig, QuicLink,
    RaftInbound,
};
pub use snapshot::SnapshotFiles;

/// A node's id, as in its configuration and its certificate. Above 0.
pub type NodeId = u64;

/// One committed entry.
#[derive(Debug, Clone)]
pub struct CommittedEntry {
    /// Its place in the group's log.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// What was proposed; none for entries of Raft's own (blank, membership).
    pub payload: Option<Bytes>,
}

/// What a group's entries are applied to. Deterministic: no clock, no randomness, no network.
pub trait StateMachine: Send + 'static {
    /// Applies committed entries, in order, by adding changes to `write`; answers one outcome for each entry.
    /// The caller adds the applied log id to the same set and writes it.
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        write: &mut WriteSet,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// The set of the last `apply` is readable in the store: now its effects may leave.
    fn written(&mut self);

    /// A snapshot replaced all rows of the group: forget what was cached.
    fn restored(&mut self) -> Result<(), StoreError>;
}
