//! Direct: exactly two users, who may do everything; nobody else may do anything.

use parlance_proto::client::v1::ConversationKind;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{DirectId, UserId};

use super::{Action, Audience, Face};

pub(super) fn may(direct: &DirectId, user: &UserId, action: Action) -> Result<(), Error> {
    if direct.peer_of(user).is_some() {
        return Ok(());
    }
    let what = match action {
        Action::Send => "send to it",
        Action::Read => "read it",
        Action::MarkRead => "have a read position in it",
    };
    Err(Error::new(
        ErrorCode::PermissionDenied,
        format!("only the two users of a direct conversation may {what}"),
    ))
}

pub(super) fn audience(direct: &DirectId) -> Audience {
    Audience::Users(vec![direct.first().clone(), direct.second().clone()])
}

pub(super) fn face(direct: &DirectId, user: &UserId) -> Face {
    Face {
        kind: ConversationKind::Direct,
        peer: direct.peer_of(user).cloned(),
    }
}

/// Of an event's header: what is not of one of the two is of the other.
pub(super) fn messages_of_others(by_user: bool, ordinal: u64, own: u64) -> u64 {
    if by_user {
        ordinal.saturating_sub(own)
    } else {
        own
    }
}

#[cfg(test)]
mod tests {
    use super::super::unread;
    use super::*;

    #[test]
    fn both_users_may_and_a_third_may_not() {
        let user = |id| UserId::new(id).unwrap();
        let direct = DirectId::between(&user("a"), &user("b")).unwrap();
        for action in [Action::Send, Action::Read, Action::MarkRead] {
            assert!(may(&direct, &user("a"), action).is_ok());
            assert!(may(&direct, &user("b"), action).is_ok());
            let denied = may(&direct, &user("c"), action).unwrap_err();
            assert_eq!(denied.code(), ErrorCode::PermissionDenied);
        }
    }

    #[test]
    fn unread_counts_the_other_users_messages_behind_the_position() {
        // a: 1 2 4, b: 3 5; b has read up to event 4, which is a's third message of four so far.
        let read = messages_of_others(false, 4, 3);
        assert_eq!(read, 3);
        assert_eq!(unread(5, 2, read), 0);
        // a has read up to event 4, an own one: one of b's.
        let read = messages_of_others(true, 4, 3);
        assert_eq!(read, 1);
        assert_eq!(unread(5, 3, read), 1);
    }
}
