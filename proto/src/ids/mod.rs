//! Ids: parsed once where they come in, valid from then on.
//!
//! Texts of users, apps and conversations are types of their own; their clones share memory. Shards and nodes are
//! numbers that cannot be mistaken for each other.

mod conversation;
mod number;
mod text;

pub use conversation::{ConversationId, DirectId, GroupId, RoomId};
pub use number::{NodeId, ShardId};
pub use text::{AppAlias, AppId, ClientMessageId, UserId};

use crate::limits::{
    APP_ALIAS_BYTES_MAX, APP_ID_BYTES_MAX, CLIENT_MESSAGE_ID_BYTES_MAX, GROUP_ID_BYTES_MAX,
    USER_ID_BYTES_MAX,
};
use crate::visible::hidden_in;

/// Why an id was refused. The text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 1 to 64 bytes.
    #[error("user id {0:?} is not allowed: 1 to {USER_ID_BYTES_MAX} bytes")]
    User(String),
    /// Not 1 to 32 of `a-z 0-9 -`.
    #[error("app id {0:?} is not allowed: 1 to {APP_ID_BYTES_MAX} of a-z, 0-9 and -")]
    App(String),
    /// Not 1 to 64 of `A-Z a-z 0-9 _ -`.
    #[error("alias {0:?} is not allowed: 1 to {APP_ALIAS_BYTES_MAX} of A-Z, a-z, 0-9, _ and -")]
    Alias(String),
    /// Not 1 to 64 bytes.
    #[error("client message id {0:?} is not allowed: 1 to {CLIENT_MESSAGE_ID_BYTES_MAX} bytes")]
    ClientMessage(String),
    /// Not 1 to 64 bytes.
    #[error("group or room id {0:?} is not allowed: 1 to {GROUP_ID_BYTES_MAX} bytes")]
    Group(String),
    /// None of the forms `d:<length>:<user>:<user>`, `g:<group>` and `r:<room>`.
    #[error(
        "conversation id {0:?} is not allowed: a direct conversation is d:<bytes of first user>:<first user>:<second user> with the users in ascending order, a group g:<id>, a room r:<id>"
    )]
    Conversation(String),
    /// With a character that nobody sees.
    #[error(
        "id {id:?} is not allowed: U+{:04X} is a control character or invisible",
        u32::from(*character)
    )]
    Hidden {
        /// The id.
        id: String,
        /// The first such character in it.
        character: char,
    },
    /// A user cannot have a direct conversation with themselves.
    #[error("user {0:?} cannot have a direct conversation with themselves")]
    SelfConversation(String),
}

/// At most this much of a refused id goes into an error.
const SHOWN_CHARS: usize = 80;

fn shown(id: &str) -> String {
    id.chars().take(SHOWN_CHARS).collect()
}

/// Why a text is no id: it has a character that nobody sees, or breaks the id's own rule.
fn refused(id: &str, otherwise: fn(String) -> IdError) -> IdError {
    match hidden_in(id) {
        Some(character) => IdError::Hidden {
            id: shown(id),
            character,
        },
        None => otherwise(shown(id)),
    }
}
