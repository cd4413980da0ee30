//! Frames to WebSocket messages and back, in both wire formats.

use parlance_proto::client::v1::{ClientFrame, ServerFrame};
use prost::Message as _;
use tokio_tungstenite::tungstenite::Message;

/// How frames are written: the WebSocket subprotocol that the client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WireFormat {
    /// `parlance.v1`: binary protobuf.
    #[default]
    Protobuf,
    /// `parlance.v1.json`: the same frames as protobuf JSON, for debugging.
    Json,
}

impl WireFormat {
    /// The name in the `Sec-WebSocket-Protocol` header.
    pub fn subprotocol(self) -> &'static str {
        match self {
            WireFormat::Protobuf => "parlance.v1",
            WireFormat::Json => "parlance.v1.json",
        }
    }

    pub(super) fn encode(self, frame: &ClientFrame) -> Result<Message, String> {
        match self {
            WireFormat::Protobuf => Ok(Message::Binary(frame.encode_to_vec().into())),
            WireFormat::Json => serde_json::to_string(frame)
                .map(|text| Message::Text(text.into()))
                .map_err(|e| e.to_string()),
        }
    }

    /// None for messages that carry no frame (ping, pong, close).
    pub(super) fn decode(self, message: Message) -> Option<Result<ServerFrame, String>> {
        let frame = match (self, message) {
            (_, Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {
                return None;
            }
            (WireFormat::Protobuf, Message::Binary(bytes)) => {
                ServerFrame::decode(bytes).map_err(|e| format!("undecodable frame: {e}"))
            }
            (WireFormat::Json, Message::Text(text)) => {
                serde_json::from_str(&text).map_err(|e| format!("undecodable frame: {e}"))
            }
            (WireFormat::Protobuf, Message::Text(_)) => Err("text in a binary protocol".to_owned()),
            (WireFormat::Json, Message::Binary(_)) => Err("bytes in a text protocol".to_owned()),
        };
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_proto::client::v1::{PingRequest, PingResponse, client_frame, server_frame};

    #[test]
    fn frames_survive_both_formats() {
        let asked = ClientFrame {
            request_id: 7,
            body: Some(client_frame::Body::Ping(PingRequest {})),
        };
        let answered = ServerFrame {
            request_id: 7,
            body: Some(server_frame::Body::Ping(PingResponse {
                server_time_ms: 1_700_000_000_000,
            })),
        };
        let Ok(Message::Binary(bytes)) = WireFormat::Protobuf.encode(&asked) else {
            panic!("binary expected")
        };
        assert_eq!(ClientFrame::decode(bytes).unwrap(), asked);
        let Ok(Message::Text(text)) = WireFormat::Json.encode(&asked) else {
            panic!("text expected")
        };
        assert_eq!(serde_json::from_str::<ClientFrame>(&text).unwrap(), asked);

        let binary = Message::Binary(answered.encode_to_vec().into());
        assert_eq!(
            WireFormat::Protobuf
                .decode(binary.clone())
                .unwrap()
                .unwrap(),
            answered
        );
        let text = Message::Text(serde_json::to_string(&answered).unwrap().into());
        assert_eq!(
            WireFormat::Json.decode(text.clone()).unwrap().unwrap(),
            answered
        );
        assert!(WireFormat::Protobuf.decode(text).unwrap().is_err());
        assert!(WireFormat::Json.decode(binary).unwrap().is_err());
        assert!(
            WireFormat::Json
                .decode(Message::Ping(Default::default()))
                .is_none()
        );
    }
}
