//! Ids that come from outside: parsed once, valid from then on.

use std::fmt;

use crate::limits::{APP_ID_BYTES_MAX, CLIENT_MESSAGE_ID_BYTES_MAX, USER_ID_BYTES_MAX};

/// Why an id was refused. The text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 1 to 64 bytes, or with control characters.
    #[error(
        "user id {0:?} is not allowed: 1 to {USER_ID_BYTES_MAX} bytes without control characters"
    )]
    User(String),
    /// Not 1 to 32 of `a-z 0-9 -`.
    #[error("app id {0:?} is not allowed: 1 to {APP_ID_BYTES_MAX} of a-z, 0-9 and -")]
    App(String),
    /// Not 1 to 64 bytes, or with control characters.
    #[error(
        "client message id {0:?} is not allowed: 1 to {CLIENT_MESSAGE_ID_BYTES_MAX} bytes without control characters"
    )]
    ClientMessage(String),
    /// Not of the form `d:<length>:<user>:<user>`.
    #[error(
        "conversation id {0:?} is not allowed: a direct conversation is d:<bytes of first user>:<first user>:<second user>, users in rising order"
    )]
    Conversation(String),
    /// A user cannot have a direct conversation with themselves.
    #[error("user {0:?} cannot have a direct conversation with themselves")]
    SelfConversation(String),
}

/// At most this much of a refused id goes into a message.
const SHOWN_CHARS: usize = 80;

fn shown(id: &str) -> String {
    id.chars().take(SHOWN_CHARS).collect()
}

/// Checks a user id.
pub fn check_user_id(id: &str) -> Result<(), IdError> {
    if id.is_empty() || id.len() > USER_ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(IdError::User(shown(id)));
    }
    Ok(())
}

/// Checks an app id.
pub fn check_app_id(id: &str) -> Result<(), IdError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if id.is_empty() || id.len() > APP_ID_BYTES_MAX || !id.bytes().all(allowed) {
        return Err(IdError::App(shown(id)));
    }
    Ok(())
}

/// Checks a client message id.
pub fn check_client_message_id(id: &str) -> Result<(), IdError> {
    if id.is_empty() || id.len() > CLIENT_MESSAGE_ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(IdError::ClientMessage(shown(id)));
    }
    Ok(())
}

/// A direct conversation: exactly two users, first < second in byte order.
/// Its text form `d:<bytes of first>:<first>:<second>` is unambiguous whatever the user ids contain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DirectConversation {
    first: String,
    second: String,
}

impl DirectConversation {
    /// The conversation of two different users, in any order.
    pub fn between(a: &str, b: &str) -> Result<Self, IdError> {
        check_user_id(a)?;
        check_user_id(b)?;
        match a.cmp(b) {
            std::cmp::Ordering::Less => Ok(Self {
                first: a.to_owned(),
                second: b.to_owned(),
            }),
            std::cmp::Ordering::Greater => Ok(Self {
                first: b.to_owned(),
                second: a.to_owned(),
            }),
            std::cmp::Ordering::Equal => Err(IdError::SelfConversation(shown(a))),
        }
    }

    /// Parses the text form; only the canonical form is accepted.
    pub fn parse(id: &str) -> Result<Self, IdError> {
        let refused = || IdError::Conversation(shown(id));
        let rest = id.strip_prefix("d:").ok_or_else(refused)?;
        let (length, users) = rest.split_once(':').ok_or_else(refused)?;
        let length: usize = length.parse().map_err(|_| refused())?;
        let first = users.get(..length).ok_or_else(refused)?;
        let second = users
            .get(length..)
            .and_then(|r| r.strip_prefix(':'))
            .ok_or_else(refused)?;
        let conversation = Self::between(first, second).map_err(|_| refused())?;
        // Refuses users in falling order, and lengths such as `+5` or `05`.
        if conversation.to_string() != id {
            return Err(refused());
        }
        Ok(conversation)
    }

    /// The user that sorts first.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// The user that sorts second.
    pub fn second(&self) -> &str {
        &self.second
    }

    /// The other user, if `user` is one of the two.
    pub fn peer_of(&self, user: &str) -> Option<&str> {
        if user == self.first {
            Some(&self.second)
        } else if user == self.second {
            Some(&self.first)
        } else {
            None
        }
    }
}

impl fmt::Display for DirectConversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d:{}:{}:{}", self.first.len(), self.first, self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_ids_are_the_same_from_both_sides_and_parse_back() {
        for (a, b) in [
            ("alice", "bob"),
            ("a:b", "a"),
            ("用户", "d:1:x:y"),
            ("1", "2"),
        ] {
            let one = DirectConversation::between(a, b).unwrap();
            assert_eq!(one, DirectConversation::between(b, a).unwrap());
            assert_eq!(DirectConversation::parse(&one.to_string()).unwrap(), one);
            assert_eq!(one.peer_of(a), Some(b));
            assert_eq!(one.peer_of("someone else"), None);
        }
    }

    #[test]
    fn anything_but_the_canonical_form_is_refused() {
        for id in [
            "",
            "d:",
            "d:5:bob:alice",
            "d:3:bob:alice",
            "d:05:alice:bob",
            "d:+5:alice:bob",
            "d:5:alice",
            "d:5:alice:",
            "d:99:alice:bob",
            "g:1",
            "d:5:alice:alice",
            "d:1:用:户",
            "d:5:alice:b\nob",
        ] {
            assert!(DirectConversation::parse(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn app_ids_are_small_letters_digits_and_dashes() {
        assert!(check_app_id("demo-1").is_ok());
        for id in ["", "Demo", "a_b", "a/b", &"a".repeat(33)] {
            assert!(check_app_id(id).is_err(), "{id:?}");
        }
    }
}
