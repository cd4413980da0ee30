//! An event's bytes are encoded once, where its message comes in, and are copied from then on.
//!
//! A body is an encoded [`Event`] that has nothing but its body. An encoded event with nothing but its header, followed by
//! a body's bytes, is the whole event: so protobuf defines what follows in one message.

use bytes::Bytes;
use prost::Message as _;

use crate::client::v1::{Event, ServerFrame, event, server_frame};

/// The bytes that a message's body is stored, relayed and read as.
pub fn encode_body(body: event::Body) -> Bytes {
    let event = Event {
        body: Some(body),
        ..Event::default()
    };
    event.encode_to_vec().into()
}

/// An event's encoding, of its header and the bytes of its body.
pub fn encode_event(header: &Event, body: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(header.encoded_len() + body.len());
    put_event(header, body, &mut bytes);
    bytes.into()
}

/// A `ServerFrame` that pushes an event.
pub fn encode_event_frame(header: &Event, body: &[u8]) -> Bytes {
    let length = header.encoded_len() + body.len();
    let mut frame = Vec::with_capacity(length + 8);
    frame.extend_from_slice(event_key());
    prost::encoding::encode_varint(length as u64, &mut frame);
    put_event(header, body, &mut frame);
    frame.into()
}

fn put_event(header: &Event, body: &[u8], bytes: &mut Vec<u8>) {
    // Into a vector there is always room.
    let _ = header.encode(bytes);
    bytes.extend_from_slice(body);
}

/// What comes before the length of an event in a frame: as the generated code writes it.
fn event_key() -> &'static [u8] {
    static KEY: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let empty = ServerFrame {
            request_id: 0,
            body: Some(server_frame::Body::Event(Event::default())),
        };
        let mut bytes = empty.encode_to_vec();
        bytes.pop(); // the length of nothing
        bytes
    });
    &KEY
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::v1::{Content, CustomContent, Message, content};

    fn bodies() -> impl Strategy<Value = event::Body> {
        let bytes = prop::collection::vec(any::<u8>(), 0..300);
        let custom = (any::<u32>(), bytes).prop_map(|(r#type, data)| CustomContent {
            r#type,
            data: data.into(),
        });
        let kinds = prop_oneof![
            ".{0,200}".prop_map(content::Kind::Text),
            custom.prop_map(content::Kind::Custom),
        ];
        (".{0,64}", prop::option::of(prop::option::of(kinds))).prop_map(
            |(client_message_id, content)| {
                event::Body::Message(Message {
                    client_message_id,
                    content: content.map(|kind| Content { kind }),
                })
            },
        )
    }

    fn headers() -> impl Strategy<Value = Event> {
        (".{0,64}", any::<u64>(), any::<i64>(), ".{0,64}").prop_map(
            |(conversation_id, seq, time_ms, sender)| Event {
                conversation_id,
                seq,
                time_ms,
                sender,
                body: None,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_put_together_is_what_would_have_been_encoded_at_once(header in headers(), body in bodies()) {
            let whole = Event {
                body: Some(body.clone()),
                ..header.clone()
            };
            let bytes = encode_body(body);
            prop_assert_eq!(&encode_event(&header, &bytes)[..], whole.encode_to_vec());
            let frame = ServerFrame {
                request_id: 0,
                body: Some(server_frame::Body::Event(whole)),
            };
            prop_assert_eq!(&encode_event_frame(&header, &bytes)[..], frame.encode_to_vec());
        }
    }

    /// What is in every log and on every client: never edit the expected bytes.
    #[test]
    fn an_event_has_these_bytes_for_ever() {
        let header = Event {
            conversation_id: "d:1:a:b".into(),
            seq: 3,
            time_ms: 4,
            sender: "a".into(),
            body: None,
        };
        let body = encode_body(event::Body::Message(Message {
            client_message_id: "m".into(),
            content: Some(Content {
                kind: Some(content::Kind::Text("hi".into())),
            }),
        }));
        assert_eq!(body, &b"*\t\n\x01m\x12\x04\n\x02hi"[..]);
        assert_eq!(
            encode_event(&header, &body),
            [&b"\n\x07d:1:a:b\x10\x03\x18\x04\"\x01a"[..], &body].concat()
        );
        let frame = [&b"\x82\x01\x1b"[..], &encode_event(&header, &body)].concat();
        assert_eq!(encode_event_frame(&header, &body), frame);
    }
}
