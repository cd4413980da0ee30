//! One shard on this node: the door for commands and reads, and what lives only while this node leads.
//!
//! `proposer.rs` gathers commands into entries, `read.rs` answers what history and lists ask, `registry.rs` has the
//! shards of this node. What a committed entry wants done outside goes through `deliver/`.

mod proposer;
mod read;
mod registry;

use std::sync::Arc;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::shard::Group;
use parlance_proto::store::v1::Command;

pub use proposer::{Proposer, ProposerLimits, Reply};
pub use registry::Shards;

use crate::apply::CommandOutcome;
use crate::deliver::{OutboxFeed, Topics};
use crate::raft::{NodeId, RaftGroup, ReadError};
use crate::store::{StateStore, StoreError};

/// Why a shard did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShardError {
    /// Another node leads, or nobody that is known.
    #[error("this node does not lead the shard")]
    NotLeader(Option<NodeId>),
    /// The queue is full; nothing was proposed.
    #[error("the shard has {queued} commands waiting, which is its limit")]
    Overloaded {
        /// How many wait.
        queued: usize,
    },
    /// Leadership changed before the outcome was known.
    #[error("the shard's leader changed before the outcome was known")]
    OutcomeUnknown,
    /// The replica stopped.
    #[error("the shard's replica on this node has stopped")]
    Stopped,
    /// The request breaks a rule.
    #[error("{0}")]
    Refused(Error),
    /// The disk failed or a row is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ShardError> for Error {
    fn from(error: ShardError) -> Self {
        let code = match &error {
            ShardError::Refused(refused) => return refused.clone(),
            ShardError::NotLeader(_) => ErrorCode::Unavailable,
            ShardError::Overloaded { .. } => ErrorCode::Overloaded,
            ShardError::OutcomeUnknown => ErrorCode::OutcomeUnknown,
            ShardError::Stopped => ErrorCode::ShuttingDown,
            ShardError::Store(_) => ErrorCode::Internal,
        };
        Error::new(code, error.to_string())
    }
}

impl From<ReadError> for ShardError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotLeader { leader } => ShardError::NotLeader(leader),
            ReadError::Stopped => ShardError::Stopped,
        }
    }
}

/// One shard's replica on this node.
pub struct Shard {
    shard: u32,
    raft: RaftGroup,
    proposer: Proposer,
    topics: Arc<Topics>,
    feed: Arc<OutboxFeed>,
    store: Arc<dyn StateStore>,
}

impl Shard {
    /// Puts the parts together; the proposer runs until its shard is dropped.
    pub fn new(
        shard: u32,
        raft: RaftGroup,
        proposer: Proposer,
        topics: Arc<Topics>,
        feed: Arc<OutboxFeed>,
        store: Arc<dyn StateStore>,
    ) -> Self {
        Self {
            shard,
            raft,
            proposer,
            topics,
            feed,
            store,
        }
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.shard
    }

    /// Its Raft group's number.
    pub fn group(&self) -> Group {
        self.raft.id()
    }

    /// Its Raft group.
    pub fn raft(&self) -> &RaftGroup {
        &self.raft
    }

    /// The topics that gateways have subscribed to here.
    pub fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// What committed entries want relayed.
    pub fn feed(&self) -> &Arc<OutboxFeed> {
        &self.feed
    }

    /// Its rows.
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.store
    }

    /// Puts commands into the next entry, in this order; `reply` gets one outcome each, or why there is none.
    pub fn submit(&self, commands: Vec<Command>, reply: Reply) {
        self.proposer.submit(commands, reply);
    }

    /// [`Shard::submit`], for those who can wait.
    pub async fn submit_and_wait(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<CommandOutcome>, ShardError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.submit(commands, Box::new(move |result| drop(sender.send(result))));
        receiver.await.unwrap_or(Err(ShardError::Stopped))
    }

    /// Whether this node leads the shard, as far as it knows.
    pub fn is_led_here(&self) -> bool {
        self.raft.leadership().borrow().leading
    }
}
