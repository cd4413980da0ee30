//! `SendCommand`: one message gets the next seq of its conversation, once.

use bytes::Bytes;
use parlance_proto::client::v1::{Content, Event, Message, event};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::DirectConversation;
use parlance_proto::link::v1::{EncodedEvent, EncodedMessage};
use parlance_proto::store::v1::{ConversationHead, SendCommand, StoredEvent, outbox_item};
use prost::Message as _;

use super::dedup::{self, Fingerprint};
use super::effect::EffectBody;
use super::entry::Entry;
use super::{CommandOutcome, refused};
use crate::store::{StoreError, Table, key};

pub(super) fn apply(
    send: SendCommand,
    entry: &mut Entry<'_, '_>,
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
    if let Some(first) = dedup::find(entry, &fingerprint)? {
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
    let (time_ms, rows) = (entry.state.time_ms, &mut *entry.rows);
    let group = rows.group();
    let head_key = key::conversation(group, &send.app_id, &send.conversation_id);
    let mut head = entry.heads.get(rows, &head_key)?;
    let stored = next_event(&mut head, time_ms, &send, &members);
    let seq = head.head_seq;
    entry.heads.put(rows, head_key, head);
    rows.put(
        Table::Events,
        key::event(group, &send.app_id, &send.conversation_id, seq),
        &stored,
    );
    dedup::remember(entry, &fingerprint, seq);
    let event = || EffectBody::Event {
        event: encoded_event(&send.conversation_id, seq, stored),
        except_session_id: send.session_id,
    };
    entry.put_outbox(
        &send.app_id,
        &send.conversation_id,
        outbox_item::Body::EventSeq(seq),
        event,
    );
    Ok(CommandOutcome::Sent {
        seq,
        time_ms,
        duplicate: false,
    })
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

/// The encoding of [`client_event`], without decoding the content in between.
pub fn encoded_event(conversation_id: &str, seq: u64, stored: StoredEvent) -> Bytes {
    let event = EncodedEvent {
        conversation_id: conversation_id.to_owned(),
        seq,
        time_ms: stored.time_ms,
        sender: stored.sender,
        message: Some(EncodedMessage {
            client_message_id: stored.client_message_id,
            content: stored.content,
        }),
    };
    event.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_proto::client::v1::{CustomContent, content};

    #[test]
    fn a_push_says_what_history_says() {
        let custom = CustomContent {
            r#type: 7,
            data: Bytes::from_static(b"bytes"),
        };
        for kind in [
            content::Kind::Text("hi".into()),
            content::Kind::Custom(custom),
        ] {
            let stored = StoredEvent {
                time_ms: 5,
                sender: "alice".into(),
                client_message_id: "m1".into(),
                content: Content { kind: Some(kind) }.encode_to_vec().into(),
                message_ordinal: 3,
                sender_ordinal: 2,
            };
            let read = client_event("d:5:alice:bob", 4, &stored).unwrap();
            let pushed = encoded_event("d:5:alice:bob", 4, stored);
            assert_eq!(Event::decode(pushed.clone()).unwrap(), read);
            assert_eq!(pushed, read.encode_to_vec());
        }
    }
}
