//! Why a shard did not do what it was asked.

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::NodeId;

use crate::apply::OwnedRange;
use crate::conversation::Denied;
use crate::raft::ReadError;
use crate::store::StoreError;

/// A full queue has room again about then: it is a few entries long.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Why a shard did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShardError {
    /// Another node leads, or nobody that is known.
    #[error("this node does not lead the shard")]
    NotLeader(Option<NodeId>),
    /// The shard does not own the slot; nothing was done. What it owns instead, and what it was split into.
    #[error("the shard does not own the slot")]
    Moved(Arc<OwnedRange>),
    /// The queue is full; nothing was proposed.
    #[error("the shard has {queued} commands waiting, which is its limit")]
    Overloaded {
        /// How many wait.
        queued: usize,
    },
    /// The disk is nearly full; nothing was proposed.
    #[error(
        "the disk of the shard's leader is nearly full ({free_bytes} bytes are left): nothing new is stored until there is room"
    )]
    DiskFull {
        /// How many bytes are left.
        free_bytes: u64,
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
    /// Apply answered something else: a bug.
    #[error("the outcome does not fit the command")]
    Unexpected,
    /// The disk failed or a row is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Nobody makes room faster than this.
const DISK_FULL_RETRY_AFTER_MS: u32 = 2000;

impl From<ShardError> for Error {
    fn from(error: ShardError) -> Self {
        let code = match &error {
            ShardError::Refused(refused) => return refused.clone(),
            ShardError::Overloaded { .. } => {
                return Error::overloaded(error.to_string(), RETRY_AFTER);
            }
            ShardError::NotLeader(_) | ShardError::Moved(_) => ErrorCode::Unavailable,
            ShardError::DiskFull { .. } => ErrorCode::Overloaded,
            ShardError::OutcomeUnknown => ErrorCode::OutcomeUnknown,
            ShardError::Stopped => ErrorCode::ShuttingDown,
            // The disk may give the rows back in a moment, and if not another leads.
            ShardError::Store(store) if store.is_failure() => ErrorCode::Unavailable,
            ShardError::Unexpected | ShardError::Store(_) => ErrorCode::Internal,
        };
        let retry_after_ms = match &error {
            ShardError::DiskFull { .. } => DISK_FULL_RETRY_AFTER_MS,
            _ => 0,
        };
        Error {
            retry_after_ms,
            ..Error::new(code, error.to_string())
        }
    }
}

impl From<Denied> for ShardError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Refused(error) => Self::Refused(error),
            Denied::Failed(error) => Self::Store(error),
        }
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
