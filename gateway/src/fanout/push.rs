//! One push to all local sessions of its user: encoded at most once per wire format, never waits.

use bytes::Bytes;
use parlance_proto::client::v1::{Event, ResyncNotice, ServerFrame, server_frame};
use parlance_proto::link::v1::{EncodedEventFrame, Publish, publish, topic};
use prost::Message as _;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::metrics::PUSHED;
use crate::session::registry::Registry;
use crate::ws::codec::{Format, encode_server_frame};

/// A frame for many sessions, encoded when the first session of a format needs it.
#[derive(Debug)]
pub struct SharedFrame {
    push: Push,
    binary: Option<Message>,
    json: Option<Message>,
}

/// What a frame pushes.
#[derive(Debug)]
enum Push {
    /// An encoded event, which goes into binary frames as it is.
    Event(Bytes),
    Other(server_frame::Body),
}

impl Push {
    fn encode(&self, format: Format) -> Message {
        let body = match self {
            Self::Event(event) if format == Format::Binary => {
                let event = event.clone();
                let frame = EncodedEventFrame { event };
                return Message::Binary(frame.encode_to_vec().into());
            }
            // Nodes encode what they have stored. What cannot be read all the same is fetched by seq.
            Self::Event(event) => Event::decode(event.clone()).map_or_else(
                |_| server_frame::Body::Resync(ResyncNotice {}),
                server_frame::Body::Event,
            ),
            Self::Other(body) => body.clone(),
        };
        let frame = ServerFrame {
            request_id: 0,
            body: Some(body),
        };
        encode_server_frame(format, &frame)
    }
}

impl SharedFrame {
    /// A push with this body.
    pub fn new(body: server_frame::Body) -> Self {
        Self::of(Push::Other(body))
    }

    fn of(push: Push) -> Self {
        Self {
            push,
            binary: None,
            json: None,
        }
    }

    /// The encoded frame; all calls with one format share their bytes.
    pub fn get(&mut self, format: Format) -> Message {
        let slot = match format {
            Format::Binary => &mut self.binary,
            Format::Json => &mut self.json,
        };
        slot.get_or_insert_with(|| self.push.encode(format)).clone()
    }
}

/// Queues the push for each local session of its user.
pub fn push(registry: &Registry, publish: Publish) {
    let Some(topic) = publish.topic else { return };
    let Some(topic::Name::UserId(user_id)) = topic.name else {
        return;
    };
    let push = match publish.body {
        Some(publish::Body::Event(event)) => Push::Event(event),
        Some(publish::Body::ReadCursor(cursor)) => {
            Push::Other(server_frame::Body::ReadCursor(cursor))
        }
        None => return,
    };
    let except = Uuid::try_parse(&publish.except_session_id).ok();
    let mut frame = SharedFrame::of(push);
    let mut pushed = 0;
    registry.for_each(&topic.app_id, &user_id, |session| {
        if Some(session.id) != except && session.outbound.push(frame.get(session.format)) {
            pushed += 1;
        }
    });
    metrics::counter!(PUSHED).increment(pushed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_proto::client::v1::{Content, Message as ChatMessage, content, event};

    #[test]
    fn an_encoded_event_is_the_same_frame_as_a_decoded_one() {
        let event = Event {
            conversation_id: "d:5:alice:bob".into(),
            seq: 3,
            time_ms: 4,
            sender: "alice".into(),
            body: Some(event::Body::Message(ChatMessage {
                client_message_id: "m1".into(),
                content: Some(Content {
                    kind: Some(content::Kind::Text("hi".into())),
                }),
            })),
        };
        for format in [Format::Binary, Format::Json] {
            let encoded = Push::Event(event.encode_to_vec().into()).encode(format);
            let decoded = Push::Other(server_frame::Body::Event(event.clone())).encode(format);
            assert_eq!(encoded, decoded);
        }
    }

    #[test]
    fn an_event_that_cannot_be_read_is_no_empty_event_but_a_resync() {
        let broken = Push::Event(Bytes::from_static(b"\xff")).encode(Format::Json);
        let resync = Push::Other(server_frame::Body::Resync(ResyncNotice {}));
        assert_eq!(broken, resync.encode(Format::Json));
    }
}
