//! One item of a relay: what it is for, once its ids are checked.

use bytes::Bytes;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{AppId, ConversationId, UserId};
use parlance_proto::link::v1::{Publish, topic};
use parlance_proto::raft::v1::RelayItem;
use parlance_proto::slot::Slot;
use prost::Message;

use crate::shard::{ShardError, UserTopic};

/// An item whose ids are checked.
pub(super) struct Relayed {
    pub(super) topic: UserTopic,
    pub(super) slot: Slot,
    /// Empty if it is of none.
    pub(super) conversation_id: String,
    /// Encoded.
    pub(super) publish: Bytes,
}

impl Relayed {
    /// None for an item that nobody can ever deliver: it is logged and passed over.
    ///
    /// # Errors
    /// A newer program's item: it is to be sent again until this node has been upgraded.
    pub(super) fn check(item: Bytes) -> Result<Option<Self>, ShardError> {
        let parsed = RelayItem::decode(item)
            .and_then(|item| Ok((Publish::decode(item.publish.clone())?, item)))
            .map_err(|e| e.to_string());
        let (publish, item) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Ok(passed_over(&error)),
        };
        let topic = publish.topic.unwrap_or_default();
        let Some(topic::Name::UserId(user)) = topic.name else {
            return Err(newer("topic"));
        };
        let id = &item.conversation_id;
        if !id.is_empty() && ConversationId::parse(id).is_err() {
            return Err(newer("conversation"));
        }
        Ok(match (AppId::new(topic.app_id), UserId::new(user)) {
            (Ok(app), Ok(user)) => Some(Self {
                slot: Slot::of_user(&app, &user),
                topic: (app, user),
                conversation_id: item.conversation_id,
                publish: item.publish,
            }),
            (Err(error), _) | (_, Err(error)) => passed_over(&error.to_string()),
        })
    }
}

fn passed_over(error: &str) -> Option<Relayed> {
    tracing::error!(error, "a relayed item is passed over");
    None
}

fn newer(what: &str) -> ShardError {
    let text = format!("this node does not know the kind of {what}: it is older than the sender");
    ShardError::Refused(Error::new(ErrorCode::Unsupported, text))
}

#[cfg(test)]
mod tests {
    use parlance_proto::link::v1::Topic;

    use super::*;

    fn item(conversation_id: &str, name: Option<topic::Name>) -> Bytes {
        let topic = Topic {
            app_id: "demo".into(),
            name,
        };
        let publish = Publish {
            topic: Some(topic),
            ..Publish::default()
        };
        let item = RelayItem {
            conversation_id: conversation_id.into(),
            publish: publish.encode_to_vec().into(),
        };
        item.encode_to_vec().into()
    }

    #[test]
    fn what_a_newer_node_relays_is_sent_again_and_what_nobody_can_read_is_not() {
        let user = |id: &str| Some(topic::Name::UserId(id.into()));
        let check = Relayed::check;
        assert!(check(item("d:1:a:b", user("a"))).unwrap().is_some());
        assert!(check(item("", user("a"))).unwrap().is_some());
        for newer in [item("", None), item("z:1", user("a"))] {
            assert!(matches!(check(newer), Err(ShardError::Refused(_))));
        }
        for damaged in [Bytes::from_static(&[0xff; 3]), item("", user(""))] {
            assert!(check(damaged).unwrap().is_none());
        }
    }
}
