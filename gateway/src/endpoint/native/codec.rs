//! Frames to and from the bytes of WebSocket messages, in the two formats. Unknown fields are ignored in both.

use bytes::Bytes;
use parlance_proto::client::v1::{ClientFrame, ResyncNotice, ServerFrame, server_frame};
use prost::Message as _;

use crate::session::{Dialect, Push};

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

/// Why bytes are not a frame.
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

/// Encodes a frame.
pub fn encode_server_frame(format: Format, frame: &ServerFrame) -> Bytes {
    match format {
        Format::Binary => frame.encode_to_vec().into(),
        // Every field of our messages has a JSON form; the empty object keeps this free of panics.
        Format::Json => serde_json::to_vec(frame).map_or(Bytes::from_static(b"{}"), Bytes::from),
    }
}

/// A push as sessions of this format get it: the node's bytes, or JSON that all of them share.
pub fn encode_push(format: Format, push: &Push) -> Bytes {
    match format {
        Format::Binary => push.frame().clone(),
        Format::Json => push.form(Dialect(PROTOCOL_JSON), json),
    }
}

/// What this gateway cannot read a client of it has to fetch.
fn json(frame: &Bytes) -> Bytes {
    let frame = ServerFrame::decode(frame.clone())
        .ok()
        .filter(|frame| frame.body.is_some())
        .unwrap_or_else(|| ServerFrame {
            request_id: 0,
            body: Some(server_frame::Body::Resync(ResyncNotice::default())),
        });
    encode_server_frame(Format::Json, &frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Budget;
    use parlance_proto::client::v1::{PingRequest, ReadCursor, client_frame::Body};

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
    fn a_push_is_the_same_in_both_formats_and_a_resync_where_it_cannot_be_read() {
        let body = server_frame::Body::ReadCursor(ReadCursor {
            read_seq: 7,
            ..ReadCursor::default()
        });
        let push = Push::notice(body);
        let binary = ServerFrame::decode(encode_push(Format::Binary, &push)).unwrap();
        let json: ServerFrame = serde_json::from_slice(&encode_push(Format::Json, &push)).unwrap();
        assert_eq!(binary, json);
        // Broken bytes, and a kind of push that came after this gateway.
        for frame in [&b"\xff"[..], b"\x82\x7d\x00"] {
            let push = Push::new(Bytes::copy_from_slice(frame), &Budget::new(100));
            assert_eq!(encode_push(Format::Binary, &push), frame);
            assert_eq!(encode_push(Format::Json, &push), r#"{"resync":{}}"#);
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
