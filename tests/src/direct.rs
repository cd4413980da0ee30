//! Direct conversations by their texts, which is what histories hold.

use parlance_proto::ids::{ConversationId, DirectId, IdError, UserId};

/// The id of two users' conversation.
pub fn between(a: &str, b: &str) -> Result<String, IdError> {
    let direct = DirectId::between(&UserId::new(a)?, &UserId::new(b)?)?;
    Ok(ConversationId::Direct(direct).as_str().to_owned())
}

/// The two users of a direct conversation.
pub fn users(conversation: &str) -> Result<[String; 2], IdError> {
    match ConversationId::parse(conversation)? {
        ConversationId::Direct(direct) => Ok([direct.first().into(), direct.second().into()]),
        _ => Err(IdError::Conversation(conversation.to_owned())),
    }
}

/// The user that `user` talks to in a conversation; none if it is not theirs.
pub fn peer(conversation: &str, user: &str) -> Option<String> {
    let [first, second] = users(conversation).ok()?;
    match user {
        _ if user == first => Some(second),
        _ if user == second => Some(first),
        _ => None,
    }
}
