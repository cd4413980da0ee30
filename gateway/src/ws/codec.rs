//! Client frames to and from WebSocket messages, in the two wire formats. Unknown fields are ignored in both.

use bytes::Bytes;
use parlance_proto::client::v1::{ClientFrame, ServerFrame};
use prost::Message as _;
use tokio_tungstenite::tungstenite::Message;

/// The WebSocket subprotocol of binary frames.
pub const PROTOCOL_BINARY: &str = "parlance.v1";
/// The WebSocket subprotocol of JSON frames.
pub const PROTOCOL_JSON: &str = "parlance.v1.json";

/// How frames are written on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Protobuf in binary messages.
    Binary,
    /// Protobuf JSON in text messages.
    Json,
}

impl Format {
    /// The first subprotocol in a `Sec-WebSocket-Protocol` header that we speak.
    pub fn negotiate(offered: &str) -> Option<Self> {
        offered.split(',').find_map(|name| match name.trim() {
            PROTOCOL_BINARY => Some(Self::Binary),
            PROTOCOL_JSON => Some(Self::Json),
            _ => None,
        })
    }

    /// The subprotocol's name.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Binary => PROTOCOL_BINARY,
            Self::Json => PROTOCOL_JSON,
        }
    }
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf of this message.
    #[error("not a protobuf frame: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Not the JSON form of this message.
    #[error("not a JSON frame: {0}")]
    Json(#[from] serde_json::Error),
}

/// Decodes what one WebSocket message carried. Never panics; memory is bounded by the input's length.
pub fn decode_client_frame(format: Format, bytes: &[u8]) -> Result<ClientFrame, DecodeError> {
    match format {
        Format::Binary => Ok(ClientFrame::decode(bytes)?),
        Format::Json => Ok(serde_json::from_slice(bytes)?),
    }
}

/// Encodes a frame; the result's clones share their bytes.
pub fn encode_server_frame(format: Format, frame: &ServerFrame) -> Message {
    match format {
        Format::Binary => Message::Binary(Bytes::from(frame.encode_to_vec())),
        // Every field of our messages has a JSON form; the empty object keeps this free of panics.
        Format::Json => {
            Message::text(serde_json::to_string(frame).unwrap_or_else(|_| "{}".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_proto::client::v1::{PingRequest, client_frame::Body};

    #[test]
    fn both_formats_decode_and_ignore_unknown_fields() {
        let frame = ClientFrame {
            request_id: 7,
            body: Some(Body::Ping(PingRequest {})),
        };
        let mut bytes = frame.encode_to_vec();
        bytes.extend_from_slice(&[0xF8, 0x07, 0x01]); // field 127, varint 1
        assert_eq!(decode_client_frame(Format::Binary, &bytes).unwrap(), frame);
        let json = br#"{"requestId":"7","ping":{"later":1},"unheard":true}"#;
        assert_eq!(decode_client_frame(Format::Json, json).unwrap(), frame);
    }

    #[test]
    fn junk_is_an_error_in_both_formats() {
        for junk in [
            &b"\xff\xff\xff"[..],
            b"{",
            b"[1]",
            b"\x0a",
            b"\"x\"",
            b"\x12\xff\xff\xff\xff\x0f",
        ] {
            assert!(
                decode_client_frame(Format::Binary, junk).is_err(),
                "{junk:?}"
            );
            assert!(decode_client_frame(Format::Json, junk).is_err(), "{junk:?}");
        }
    }

    #[test]
    fn first_known_subprotocol_wins() {
        assert_eq!(
            Format::negotiate("x, parlance.v1.json, parlance.v1"),
            Some(Format::Json)
        );
        assert_eq!(Format::negotiate("parlance.v2"), None);
    }
}
