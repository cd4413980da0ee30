//! Ties each command to what applying it comes to.

use std::sync::Arc;

use parlance_proto::store::v1::{
    CloseGenerationCommand, FoundCommand, MarkReadCommand, SendCommand, SplitCommand,
    TouchConversationCommand, command::Body,
};

use super::ShardError;
use crate::apply::OwnedRange;
use crate::machine::{CommandOutcome, MessageOutcome};

/// A command of a shard.
pub trait ShardCommand: Send + 'static {
    /// What it comes to.
    type Outcome;
    /// The feature level that the cluster must have before anybody proposes it.
    fn level(&self) -> u32 {
        1
    }

    /// As the log has it.
    fn into_body(self) -> Body;

    /// Its outcome; none if it is not one of this command.
    fn outcome(outcome: CommandOutcome) -> Option<Self::Outcome>;
}

/// What a command came to; what every command can come to is an error.
pub(super) fn outcome<C: ShardCommand>(
    outcome: CommandOutcome,
    range: &Arc<OwnedRange>,
) -> Result<C::Outcome, ShardError> {
    match outcome {
        CommandOutcome::Refused(error) => Err(ShardError::Refused(error)),
        // Its first leader has not said yet what it owns.
        CommandOutcome::Moved if range.slots.is_none() => Err(ShardError::NotLeader(None)),
        CommandOutcome::Moved => Err(ShardError::Moved(range.clone())),
        outcome => C::outcome(outcome).ok_or(ShardError::Unexpected),
    }
}

/// Where a user has read up to, and what is behind that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPosition {
    /// How far the user has read.
    pub read_seq: u64,
    /// Messages of others behind it.
    pub unread: u64,
}

impl ShardCommand for SendCommand {
    /// One for each message, in order.
    type Outcome = Vec<MessageOutcome>;

    fn into_body(self) -> Body {
        Body::Send(self)
    }

    fn outcome(outcome: CommandOutcome) -> Option<Self::Outcome> {
        match outcome {
            CommandOutcome::Sent(messages) => Some(messages),
            _ => None,
        }
    }
}

impl ShardCommand for MarkReadCommand {
    type Outcome = ReadPosition;

    fn into_body(self) -> Body {
        Body::MarkRead(self)
    }

    fn outcome(outcome: CommandOutcome) -> Option<Self::Outcome> {
        match outcome {
            CommandOutcome::Read { read_seq, unread } => Some(ReadPosition { read_seq, unread }),
            _ => None,
        }
    }
}

impl ShardCommand for TouchConversationCommand {
    /// The generation in which it is touched now.
    type Outcome = u64;

    fn into_body(self) -> Body {
        Body::TouchConversation(self)
    }

    fn outcome(outcome: CommandOutcome) -> Option<u64> {
        match outcome {
            CommandOutcome::Touched { generation } => Some(generation),
            _ => None,
        }
    }
}

macro_rules! without_answer {
    ($command:ident, $name:ident, $outcome:ident) => {
        impl ShardCommand for $command {
            type Outcome = ();

            fn into_body(self) -> Body {
                Body::$name(self)
            }

            fn outcome(outcome: CommandOutcome) -> Option<()> {
                matches!(outcome, CommandOutcome::$outcome).then_some(())
            }
        }
    };
}
without_answer!(CloseGenerationCommand, CloseGeneration, Closed);
without_answer!(SplitCommand, Split, Split);
without_answer!(FoundCommand, Found, Found);
