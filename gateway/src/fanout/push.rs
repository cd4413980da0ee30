//! One push to all local sessions of its user: encoded at most once per wire format, never waits.

use parlance_proto::client::v1::{ServerFrame, server_frame};
use parlance_proto::link::v1::{Publish, publish, topic};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::metrics::PUSHED;
use crate::session::registry::Registry;
use crate::ws::codec::{Format, encode_server_frame};

/// A frame for many sessions, encoded when the first session of a format needs it.
#[derive(Debug)]
pub struct SharedFrame {
    frame: ServerFrame,
    binary: Option<Message>,
    json: Option<Message>,
}

impl SharedFrame {
    /// A push with this body.
    pub fn new(body: server_frame::Body) -> Self {
        Self {
            frame: ServerFrame {
                request_id: 0,
                body: Some(body),
            },
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
        slot.get_or_insert_with(|| encode_server_frame(format, &self.frame))
            .clone()
    }
}

/// Queues the push for each local session of its user.
pub fn push(registry: &Registry, publish: Publish) {
    let Some(topic) = publish.topic else { return };
    let Some(topic::Name::UserId(user_id)) = topic.name else {
        return;
    };
    let body = match publish.body {
        Some(publish::Body::Event(event)) => server_frame::Body::Event(event),
        Some(publish::Body::ReadCursor(cursor)) => server_frame::Body::ReadCursor(cursor),
        None => return,
    };
    let except = Uuid::try_parse(&publish.except_session_id).ok();
    let mut frame = SharedFrame::new(body);
    let mut pushed = 0;
    registry.for_each(&topic.app_id, &user_id, |session| {
        if Some(session.id) != except && session.outbound.push(frame.get(session.format)) {
            pushed += 1;
        }
    });
    metrics::counter!(PUSHED).increment(pushed);
}
