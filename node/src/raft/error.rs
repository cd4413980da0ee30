//! Why Raft on this node could not do something.

use crate::store::StoreError;
use std::path::PathBuf;

use parlance_proto::ids::{NodeId, ShardId};

/// Why the log or a shard could not be opened or started.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// The Raft log cannot be opened.
    #[error(
        "the Raft log in {dir} cannot be opened: {reason}. If the disk is sound the log is damaged, and this node must \
         not go on with what is left, since it may have forgotten votes and acknowledged entries. Keep the directory \
         for inspection and bring in a new member in its place: parlance node replace. Only if all nodes lost power \
         together and no majority of them opens: start once with recover_torn_log = true, which gives up what follows \
         the first damaged record"
    )]
    LogDamaged {
        /// The log's directory.
        dir: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// A shard's rows end before its log begins, or a half-installed snapshot cannot be finished.
    #[error(
        "shard {shard} cannot be started: {reason}. Keep the data directory for inspection and bring in a new member \
         in this node's place: parlance node replace"
    )]
    ReplicaDamaged {
        /// Of the damaged replica.
        shard: ShardId,
        /// What contradicts what, or why a row cannot be read.
        reason: String,
    },
    /// The shard's rows cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The library refused to start the shard or to initialise it.
    #[error("shard {shard}: {reason}")]
    Start {
        /// The one that was to start.
        shard: ShardId,
        /// In the library's words.
        reason: String,
    },
}

/// Why a proposal was not answered with an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was appended: ask the leader.
    #[error("not the leader")]
    NotLeader {
        /// The leader, as far as this replica knows; none during an election.
        leader: Option<NodeId>,
    },
    /// Appended here, but whether it is or will be committed is unknown.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
    /// The replica has stopped; nothing was appended.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why a read may not be answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not the leader, or not able to prove it.
    #[error("not the leader")]
    NotLeader {
        /// The leader, as far as this replica knows; none during an election.
        leader: Option<NodeId>,
    },
    /// The replica was shut down or failed; it answers nothing more.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why the members of a shard were not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MembershipError {
    /// Ask the leader.
    #[error("not the leader")]
    NotLeader {
        /// The leader, as far as this replica knows; none during an election.
        leader: Option<NodeId>,
    },
    /// Another change is under way, or the new members are not known yet.
    #[error("members not changed: {0}")]
    Refused(String),
    /// The replica was shut down or failed; whether the change is made is unknown.
    #[error("the replica has stopped")]
    Stopped,
}
