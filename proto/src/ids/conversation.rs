//! Conversations by kind.
//!
//! The text forms are `d:<bytes of first user>:<first user>:<second user>`, `g:<group>` and `r:<room>`. They are unambiguous
//! whatever the ids contain, and there is one text for each conversation.

use std::fmt;
use std::sync::Arc;

use super::text::{UserId, is_group_id};
use super::{IdError, refused, shown};

/// A conversation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConversationId {
    /// Exactly two users.
    Direct(DirectId),
    /// Members that join and leave.
    Group(GroupId),
    /// Members while they are present.
    Room(RoomId),
}

/// A direct conversation: two different users, the first sorts before the second in byte order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectId {
    text: Arc<str>,
    first: UserId,
    second: UserId,
}

/// A group: its text has the prefix `g:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(Arc<str>);

/// A room: its text has the prefix `r:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(Arc<str>);

impl DirectId {
    /// The conversation of two different users, in any order.
    pub fn between(a: &UserId, b: &UserId) -> Result<Self, IdError> {
        let (first, second) = match a.cmp(b) {
            std::cmp::Ordering::Less => (a, b),
            std::cmp::Ordering::Greater => (b, a),
            std::cmp::Ordering::Equal => return Err(IdError::SelfConversation(shown(a.as_str()))),
        };
        Ok(Self {
            text: format!("d:{}:{first}:{second}", first.as_str().len()).into(),
            first: first.clone(),
            second: second.clone(),
        })
    }

    fn parse(id: &str) -> Option<Self> {
        let (length, users) = id.strip_prefix("d:")?.split_once(':')?;
        // One text for each conversation: no `+5`, no `05`.
        if length.starts_with('0') || !length.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let length: usize = length.parse().ok()?;
        let first = UserId::new(users.get(..length)?).ok()?;
        let second = UserId::new(users.get(length..)?.strip_prefix(':')?).ok()?;
        (first < second).then(|| Self {
            text: id.into(),
            first,
            second,
        })
    }

    /// The user that sorts first.
    pub fn first(&self) -> &UserId {
        &self.first
    }

    /// The user that sorts second.
    pub fn second(&self) -> &UserId {
        &self.second
    }

    /// The other user, if `user` is one of the two.
    pub fn peer_of(&self, user: &UserId) -> Option<&UserId> {
        if *user == self.first {
            Some(&self.second)
        } else if *user == self.second {
            Some(&self.first)
        } else {
            None
        }
    }
}

impl ConversationId {
    /// Parses the text form; only the canonical form is accepted.
    pub fn parse(id: &str) -> Result<Self, IdError> {
        let parsed = match id.get(..2) {
            Some("d:") => DirectId::parse(id).map(Self::Direct),
            Some("g:") if is_group_id(&id[2..]) => Some(Self::Group(GroupId(id.into()))),
            Some("r:") if is_group_id(&id[2..]) => Some(Self::Room(RoomId(id.into()))),
            _ => None,
        };
        parsed.ok_or_else(|| refused(id, IdError::Conversation))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Direct(direct) => &direct.text,
            Self::Group(group) => &group.0,
            Self::Room(room) => &room.0,
        }
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl From<&ConversationId> for String {
    fn from(id: &ConversationId) -> String {
        id.as_str().to_owned()
    }
}

macro_rules! prefixed {
    ($name:ident, $prefix:literal) => {
        impl $name {
            /// Checks an id without its prefix.
            pub fn new(id: &str) -> Result<Self, IdError> {
                if is_group_id(id) {
                    Ok(Self(format!(concat!($prefix, "{}"), id).into()))
                } else {
                    Err(refused(id, IdError::Group))
                }
            }

            /// The id without its prefix.
            pub fn id(&self) -> &str {
                self.0.strip_prefix($prefix).unwrap_or_default()
            }
        }
    };
}
prefixed!(GroupId, "g:");
prefixed!(RoomId, "r:");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn direct_ids_are_the_same_from_both_sides_and_parse_back() {
        for (a, b) in [
            ("alice", "bob"),
            ("a:b", "a"),
            ("用户", "d:1:x:y"),
            ("1", "2"),
        ] {
            let (a, b) = (user(a), user(b));
            let one = DirectId::between(&a, &b).unwrap();
            assert_eq!(one, DirectId::between(&b, &a).unwrap());
            let id = ConversationId::Direct(one.clone());
            assert_eq!(ConversationId::parse(id.as_str()).unwrap(), id);
            assert_eq!(one.peer_of(&a), Some(&b));
            assert_eq!(one.peer_of(&user("someone else")), None);
        }
        assert!(DirectId::between(&user("a"), &user("a")).is_err());
    }

    #[test]
    fn groups_and_rooms_have_a_prefix() {
        let group = ConversationId::Group(GroupId::new("7:x").unwrap());
        assert_eq!(group.as_str(), "g:7:x");
        assert_eq!(ConversationId::parse("g:7:x").unwrap(), group);
        let ConversationId::Room(room) = ConversationId::parse("r:stage").unwrap() else {
            panic!("not a room")
        };
        assert_eq!(room.id(), "stage");
    }

    /// Ids that look like parts of conversation ids are the ones to mix up.
    const ID: &str = "[:0-9dgr用a]{1,12}";

    proptest! {
        #[test]
        fn no_two_conversations_have_the_same_text(a in ID, b in ID, c in ID, d in ID) {
            let between = |a: &str, b: &str| DirectId::between(&user(a), &user(b)).ok();
            let (one, other) = (between(&a, &b), between(&c, &d));
            if let (Some(one), Some(other)) = (one, other) {
                let same = (a == c && b == d) || (a == d && b == c);
                prop_assert_eq!(one.text == other.text, same);
            }
        }

        #[test]
        fn what_parses_is_the_one_text_of_its_conversation(text in "[dgr]:[0-9:ab用]{0,9}") {
            if let Ok(id) = ConversationId::parse(&text) {
                let again = match &id {
                    ConversationId::Direct(direct) => {
                        ConversationId::Direct(DirectId::between(&direct.second, &direct.first).unwrap())
                    }
                    ConversationId::Group(group) => ConversationId::Group(GroupId::new(group.id()).unwrap()),
                    ConversationId::Room(room) => ConversationId::Room(RoomId::new(room.id()).unwrap()),
                };
                prop_assert_eq!(again.as_str(), text.as_str());
                prop_assert_eq!(again, id);
            }
        }

        #[test]
        fn no_text_makes_the_parser_fall_over(text in any::<String>(), tail in "[:0-9]{0,6}") {
            let _ = ConversationId::parse(&text);
            let _ = ConversationId::parse(&format!("d:{tail}{text}"));
        }
    }

    #[test]
    fn anything_but_the_canonical_form_is_refused() {
        for id in [
            "",
            "d",
            "d:",
            "d:5:bob:alice",
            "d:3:bob:alice",
            "d:05:alice:bob",
            "d:+5:alice:bob",
            "d:0::bob",
            "d:5:alice",
            "d:5:alice:",
            "d:99:alice:bob",
            "d:99999999999999999999999:alice:bob",
            "g:",
            "g:a\0",
            "r:",
            "x:1",
            "d:5:alice:alice",
            "d:1:用:户",
            "d:5:alice:b\nob",
        ] {
            assert!(ConversationId::parse(id).is_err(), "{id:?}");
        }
    }
}
