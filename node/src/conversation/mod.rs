//! What a conversation's kind decides: who may do what, whom an event is for, and what is unread. One file a kind; nobody
//! else asks for the kind.

mod direct;
mod tip;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{ConversationId, UserId};

#[cfg(test)]
pub(crate) use tip::CHECKPOINT_EVENTS;
pub use tip::{ConversationRows, Tip};

use crate::sabotage::{Switch, is_on};
use crate::store::StoreError;
use crate::store::key::ConversationKeys;

/// What a user wants of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Put a message into it.
    Send,
    /// See its events and its head.
    Read,
    /// Move the own read position.
    MarkRead,
}

/// Whom an event goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// These users, through their home shards.
    Users(Vec<UserId>),
}

/// Why a user may not, or why that cannot be told.
#[derive(Debug, Clone)]
pub enum Denied {
    /// `permission_denied` with what would be needed; `unsupported` for kinds that this version does not carry.
    Refused(Error),
    /// The rows could not be read.
    Failed(StoreError),
}

impl From<StoreError> for Denied {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Whether this version carries conversations of this kind. Nothing is proposed for one that it does not, and a replica that
/// meets one in its log stops: a newer version knows what to do with it.
pub fn is_carried(conversation: &ConversationId) -> bool {
    match conversation {
        ConversationId::Direct(_) => true,
        ConversationId::Group(_) | ConversationId::Room(_) => false,
    }
}

/// For those who ask for a kind that is not carried.
pub fn not_carried() -> Error {
    let text = "this version has direct conversations only";
    Error::new(ErrorCode::Unsupported, text)
}

/// Whether a user may do that, by the conversation's rows; apply asks before it writes, reads ask before they answer.
///
/// # Errors
/// Why not.
pub fn may(
    _rows: &impl ConversationRows,
    _keys: &ConversationKeys,
    conversation: &ConversationId,
    user: &UserId,
    action: Action,
) -> Result<(), Denied> {
    match conversation {
        ConversationId::Direct(direct) => direct::may(direct, user, action),
        ConversationId::Group(_) | ConversationId::Room(_) => Err(not_carried()),
    }
    .map_err(Denied::Refused)
}

/// Whom the conversation's events are for, by its rows.
///
/// # Errors
/// The rows could not be read.
pub fn audience(
    _rows: &impl ConversationRows,
    _keys: &ConversationKeys,
    conversation: &ConversationId,
) -> Result<Audience, StoreError> {
    Ok(match conversation {
        ConversationId::Direct(direct) => direct::audience(direct),
        // Nobody may send to one yet.
        ConversationId::Group(_) | ConversationId::Room(_) => Audience::Users(Vec::new()),
    })
}

/// How a conversation's list entry looks to one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    /// The kind, for clients.
    pub kind: parlance_proto::client::v1::ConversationKind,
    /// The other user, if there is exactly one.
    pub peer: Option<UserId>,
}

/// How a conversation looks to one of its members.
pub fn face(conversation: &ConversationId, user: &UserId) -> Face {
    match conversation {
        ConversationId::Direct(direct) => direct::face(direct, user),
        ConversationId::Group(_) | ConversationId::Room(_) => Face {
            kind: parlance_proto::client::v1::ConversationKind::Unspecified,
            peer: None,
        },
    }
}

/// Messages of others than `user` up to and with the event at `seq`.
///
/// # Errors
/// The event is missing or cannot be read.
pub fn messages_of_others(
    rows: &impl ConversationRows,
    keys: &ConversationKeys,
    conversation: &ConversationId,
    user: &UserId,
    seq: u64,
) -> Result<u64, StoreError> {
    let event = rows.event(keys, seq)?.ok_or_else(|| StoreError::Damaged {
        what: format!("event {seq} below its conversation's head"),
        reason: "the row is missing".to_owned(),
    })?;
    Ok(match conversation {
        ConversationId::Direct(_) => direct::messages_of_others(
            event.sender == user.as_str(),
            event.message_ordinal,
            event.sender_ordinal,
        ),
        // Nobody has a position in one yet.
        ConversationId::Group(_) | ConversationId::Room(_) => 0,
    })
}

/// Messages of others that a member has not read: all that there are but the own and the read ones.
pub fn unread(messages: u64, sent: u64, read: u64) -> u64 {
    messages.saturating_sub(sent).saturating_sub(read) + u64::from(is_on(Switch::UnreadOffByOne))
}
