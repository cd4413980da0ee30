//! `MarkReadCommand`: a member's read cursor moves forward; unread counts follow from heads and cursors alone.

use parlance_proto::client::v1::ReadCursor;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::DirectConversation;
use parlance_proto::store::v1::{
    ConversationHead, MarkReadCommand, ReadPosition, StoredEvent, outbox_item,
};

use super::effect::EffectBody;
use super::entry::Entry;
use super::{CommandOutcome, refused};
use crate::store::{StoreError, Table, key};

pub(super) fn apply(
    mark: MarkReadCommand,
    entry: &mut Entry<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    let members = match DirectConversation::parse(&mark.conversation_id) {
        Ok(members) if members.peer_of(&mark.user_id).is_some() => members,
        Ok(_) => {
            return Ok(refused(
                ErrorCode::PermissionDenied,
                "the user is not a member of the conversation",
            ));
        }
        Err(e) => {
            return Ok(CommandOutcome::Refused(Error::invalid(
                "mark_read.conversation_id",
                e.to_string(),
            )));
        }
    };
    let rows = &mut *entry.rows;
    let group = rows.group();
    let (app, conversation, user) = (&mark.app_id, &mark.conversation_id, &mark.user_id);
    let head: Option<ConversationHead> = rows.get(
        Table::Conversations,
        key::conversation(group, app, conversation),
    )?;
    let Some(head) = head else {
        return Ok(refused(
            ErrorCode::NotFound,
            "the conversation has no events yet",
        ));
    };
    let member_key = key::member(group, app, conversation, user);
    let mut position: ReadPosition = rows
        .get(Table::Members, member_key.clone())?
        .unwrap_or_default();
    let seq = mark.seq.min(head.head_seq);
    if seq > position.read_seq {
        let event: Option<StoredEvent> =
            rows.get(Table::Events, key::event(group, app, conversation, seq))?;
        let event = event.ok_or_else(|| StoreError::Damaged {
            what: format!(
                "event {seq} below its conversation's head {}",
                head.head_seq
            ),
            reason: "the row is missing".to_owned(),
        })?;
        position = ReadPosition {
            read_seq: seq,
            read_ordinal: others_up_to(&event, user),
        };
        rows.put(Table::Members, member_key, &position);
        let cursor = || {
            EffectBody::ReadCursor(ReadCursor {
                conversation_id: conversation.clone(),
                user_id: user.clone(),
                read_seq: seq,
            })
        };
        entry.put_outbox(
            app,
            conversation,
            outbox_item::Body::ReadCursorUser(user.clone()),
            cursor,
        );
    }
    let unread = unread(&head, &members, user, &position);
    Ok(CommandOutcome::Read {
        read_seq: position.read_seq,
        unread,
    })
}

/// Messages of the other user up to and with an event.
fn others_up_to(event: &StoredEvent, user: &str) -> u64 {
    if event.sender == user {
        event.message_ordinal.saturating_sub(event.sender_ordinal)
    } else {
        event.sender_ordinal
    }
}

/// Messages of the other user behind a read position.
pub fn unread(
    head: &ConversationHead,
    members: &DirectConversation,
    user: &str,
    position: &ReadPosition,
) -> u64 {
    let others = if user == members.first() {
        head.message_ordinal
            .saturating_sub(head.first_user_messages)
    } else {
        head.first_user_messages
    };
    others.saturating_sub(position.read_ordinal)
}
