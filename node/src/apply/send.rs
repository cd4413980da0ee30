//! `SendCommand`: one message gets the next seq of its conversation, once.

use parlance_proto::client::v1::{Content, Event, Message, event};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::DirectConversation;
use parlance_proto::store::v1::{
    ConversationHead, OutboxItem, SendCommand, ShardState, StoredEvent, outbox_item,
};
use prost::Message as _;

use super::dedup::{self, Dedup, Fingerprint};
use super::effect::{Effect, EffectBody};
use super::rows::Rows;
use super::{CommandOutcome, refused};
use crate::store::{StoreError, Table, key};

pub(super) fn apply(
    state: &mut ShardState,
    dedup: Dedup,
    send: SendCommand,
    rows: &mut Rows<'_>,
    effects: &mut Vec<Effect>,
) -> Result<CommandOutcome, StoreError> {
    let members = match DirectConversation::parse(&send.conversation_id) {
        Ok(members) if members.peer_of(&send.sender).is_some() => members,
        Ok(_) => {
            return Ok(refused(
                ErrorCode::PermissionDenied,
                "the sender is not a member of the conversation",
            ));
        }
        Err(e) => {
            return Ok(CommandOutcome::Refused(Error::invalid(
                "send.conversation_id",
                e.to_string(),
            )));
        }
    };
    let fingerprint = Fingerprint::of(&send);
    if let Some(first) = dedup::find(state, dedup, &fingerprint, rows)? {
        if fingerprint.same_payload(&first) {
            return Ok(CommandOutcome::Sent {
                seq: first.seq,
                time_ms: first.time_ms,
                duplicate: true,
            });
        }
        let message = format!(
            "client_message_id {:?} was stored before with another content, as seq {}: a new message needs a new id",
            send.client_message_id, first.seq
        );
        return Ok(CommandOutcome::Refused(Error {
            field: "send.client_message_id".to_owned(),
            ..Error::new(ErrorCode::Conflict, message)
        }));
    }
    let group = rows.group();
    let head_key = key::conversation(group, &send.app_id, &send.conversation_id);
    let mut head: ConversationHead = rows
        .get(Table::Conversations, head_key.clone())?
        .unwrap_or_default();
    let stored = next_event(&mut head, state.time_ms, &send, &members);
    rows.put(Table::Conversations, head_key, &head);
    rows.put(
        Table::Events,
        key::event(group, &send.app_id, &send.conversation_id, head.head_seq),
        &stored,
    );
    dedup::remember(state, &fingerprint, head.head_seq, rows);
    put_outbox(
        state,
        rows,
        &send.app_id,
        &send.conversation_id,
        outbox_item::Body::EventSeq(head.head_seq),
    );
    let outcome = CommandOutcome::Sent {
        seq: head.head_seq,
        time_ms: state.time_ms,
        duplicate: false,
    };
    let event = client_event(&send.conversation_id, head.head_seq, &stored)?;
    effects.push(Effect {
        number: state.outbox_next - 1,
        app_id: send.app_id,
        conversation_id: send.conversation_id,
        body: EffectBody::Event {
            event,
            except_session_id: send.session_id,
        },
    });
    Ok(outcome)
}

fn next_event(
    head: &mut ConversationHead,
    time_ms: i64,
    send: &SendCommand,
    members: &DirectConversation,
) -> StoredEvent {
    if head.head_seq == 0 {
        head.created_ms = time_ms;
    }
    head.head_seq += 1;
    head.message_ordinal += 1;
    head.updated_ms = time_ms;
    if send.sender == members.first() {
        head.first_user_messages += 1;
    }
    StoredEvent {
        time_ms,
        sender: send.sender.clone(),
        client_message_id: send.client_message_id.clone(),
        content: send.content.clone(),
        message_ordinal: head.message_ordinal,
        sender_ordinal: if send.sender == members.first() {
            head.first_user_messages
        } else {
            head.message_ordinal - head.first_user_messages
        },
    }
}

/// Puts an item into the outbox under the next number.
pub(super) fn put_outbox(
    state: &mut ShardState,
    rows: &mut Rows<'_>,
    app_id: &str,
    conversation_id: &str,
    body: outbox_item::Body,
) {
    let item = OutboxItem {
        app_id: app_id.to_owned(),
        conversation_id: conversation_id.to_owned(),
        body: Some(body),
    };
    rows.put(
        Table::Outbox,
        key::outbox(rows.group(), state.outbox_next),
        &item,
    );
    state.outbox_next += 1;
}

/// A stored event as clients see it.
pub fn client_event(
    conversation_id: &str,
    seq: u64,
    stored: &StoredEvent,
) -> Result<Event, StoreError> {
    let content = Content::decode(stored.content.clone()).map_err(|e| StoreError::Damaged {
        what: format!("content of event {seq}"),
        reason: e.to_string(),
    })?;
    Ok(Event {
        conversation_id: conversation_id.to_owned(),
        seq,
        time_ms: stored.time_ms,
        sender: stored.sender.clone(),
        body: Some(event::Body::Message(Message {
            client_message_id: stored.client_message_id.clone(),
            content: Some(content),
        })),
    })
}
