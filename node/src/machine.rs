//! What a shard's log is applied to: the seam between Raft, which orders entries, and the rules, which turn them into
//! rows. Neither knows the other.
//!
//! A [`StateMachine`] is deterministic: every replica that applies the same entries has the same rows.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parlance_proto::common::v1::Error;
use parlance_proto::ids::NodeId;
use parlance_proto::store::v1::{self as stored, AppliedState, MetaOutcome};

use crate::store::{RowRange, StoreError, WriteBatch};

/// The replicas of a shard at one place in its log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Those that vote, of both sets while they change.
    pub voters: BTreeSet<NodeId>,
    /// Those that only learn.
    pub learners: BTreeSet<NodeId>,
    /// The voters are being changed: two sets must agree.
    pub joint: bool,
}

impl Replicas {
    /// Whether nobody is on the way in or out.
    pub fn are_settled(&self) -> bool {
        !self.joint && self.learners.is_empty()
    }
}

/// One committed entry.
#[derive(Debug, Clone, Default)]
pub struct CommittedEntry {
    /// Its place in the log.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// What was proposed; none for entries of Raft's own (blank, membership).
    pub payload: Option<Bytes>,
    /// The replicas in force at this entry.
    pub replicas: Arc<Replicas>,
}

/// What entries are applied to. Deterministic: no clock, no randomness, no network.
pub trait StateMachine: Send + 'static {
    /// Applies committed entries, in order, by adding changes to `write`; answers one outcome for each entry.
    /// The caller adds the applied log id to the same set and writes it.
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        write: &mut WriteBatch,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// The set of the last `apply` is readable in the store: now its effects may leave. Called before anybody is answered.
    fn written(&mut self);

    /// The rows that belong to this replica after what it has applied: what a snapshot holds, and what an installed
    /// one replaces. In order within each table, and without overlaps. Asked after every write, so keep it at hand: the same
    /// `Arc` means that nothing changed.
    fn ranges(&self) -> Arc<[RowRange]>;

    /// A snapshot replaced all rows of the replica: forget what was cached.
    fn restored(&mut self) -> Result<(), StoreError>;
}

/// The applied state of a shard that begins with rows instead of entries, as a split makes it: nothing of a log, and these voters.
/// Its own log begins behind it, in terms of its own.
pub fn state_without_log(voters: &BTreeSet<NodeId>) -> AppliedState {
    let start = stored::LogId::default();
    let node_ids: Vec<u64> = voters.iter().map(|id| id.0).collect();
    AppliedState {
        applied: Some(start),
        membership_log_id: Some(start),
        membership: Some(stored::Membership {
            nodes: node_ids.clone(),
            configs: vec![stored::NodeSet { node_ids }],
        }),
    }
}

/// What applying one entry came to.
#[derive(Debug, Clone, Default)]
pub enum Outcome {
    /// An entry of Raft's own.
    #[default]
    None,
    /// One for each command of a shard's batch.
    Shard(Vec<CommandOutcome>),
    /// A command of the meta shard.
    Meta(MetaOutcome),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::None => f.write_str("none"),
            Outcome::Shard(outcomes) => write!(f, "{} commands", outcomes.len()),
            Outcome::Meta(outcome) => write!(f, "{outcome:?}"),
        }
    }
}

/// What applying one command came to.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandOutcome {
    /// One for each message.
    Sent(Vec<MessageOutcome>),
    /// The read cursor is here now.
    Read {
        /// How far the user has read.
        read_seq: u64,
        /// Messages of others behind that.
        unread: u64,
    },
    /// The conversation is in the user's list.
    Touched {
        /// As touched in this generation.
        generation: u64,
    },
    /// The generation of the user's list is closed, now or since before.
    Closed,
    /// The shard owns slots, now or since before.
    Found,
    /// The child owns its slots, now or since the first time.
    Split,
    /// The command was one that does nothing.
    Nothing,
    /// The shard does not own the slot, or not any more; nothing was written.
    Moved,
    /// The command broke a rule; nothing was written.
    Refused(Error),
}

/// What applying one message of a command came to.
#[derive(Debug, Clone, PartialEq)]
pub enum MessageOutcome {
    /// The message is in the conversation, now or since the first time.
    Stored {
        /// Its place in the conversation.
        seq: u64,
        /// The leader's time when it was put in order.
        time_ms: i64,
        /// It was there before.
        duplicate: bool,
    },
    /// The message broke a rule; it was not written.
    Refused(Error),
}
