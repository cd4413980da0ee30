//! The two encodings of frames.

use bytes::{BufMut, Bytes, BytesMut};
use parlance_proto::client::v1::{ClientFrame, ServerFrame};
use prost::Message as _;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{WireError, frame};

/// How frames are encoded: the WebSocket subprotocol that the client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `parlance.v1`: binary protobuf.
    #[default]
    Protobuf,
    /// `parlance.v1.json`: the same frames as protobuf JSON, for debugging.
    Json,
}

impl Format {
    /// The name in the `Sec-WebSocket-Protocol` header.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Format::Protobuf => "parlance.v1",
            Format::Json => "parlance.v1.json",
        }
    }

    /// Decodes what [`super::Incoming::Frame`] holds.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if these bytes are not a frame.
    pub fn decode(self, bytes: Bytes) -> Result<ServerFrame, WireError> {
        let undecodable =
            |reason: String| WireError::Protocol(format!("undecodable frame: {reason}"));
        match self {
            Format::Protobuf => ServerFrame::decode(bytes).map_err(|e| undecodable(e.to_string())),
            Format::Json => serde_json::from_slice(&bytes).map_err(|e| undecodable(e.to_string())),
        }
    }

    /// The WebSocket opcode of a frame.
    pub(crate) fn opcode(self) -> Data {
        match self {
            Format::Protobuf => Data::Binary,
            Format::Json => Data::Text,
        }
    }

    /// Appends a frame as one WebSocket message.
    pub(crate) fn put(self, out: &mut BytesMut, frame: &ClientFrame) -> Result<(), WireError> {
        let opcode = OpCode::Data(self.opcode());
        match self {
            // Straight into the buffer: this is the load generator's path. A buffer that grows takes every frame.
            Format::Protobuf => frame::put(out, opcode, frame.encoded_len(), |out| {
                let _ = frame.encode(out);
            }),
            Format::Json => {
                let text = serde_json::to_vec(frame)
                    .map_err(|e| WireError::Protocol(format!("a frame cannot be written: {e}")))?;
                frame::put(out, opcode, text.len(), |out| out.put_slice(&text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_proto::client::v1::{PingResponse, server_frame};

    #[test]
    fn an_answer_reads_the_same_in_both_formats_and_not_in_the_other() {
        let answer = ServerFrame {
            request_id: 7,
            body: Some(server_frame::Body::Ping(PingResponse {
                server_time_ms: 1_700_000_000_000,
            })),
        };
        let binary = Bytes::from(answer.encode_to_vec());
        let text = Bytes::from(serde_json::to_vec(&answer).unwrap());
        assert_eq!(Format::Protobuf.decode(binary.clone()).unwrap(), answer);
        assert_eq!(Format::Json.decode(text.clone()).unwrap(), answer);
        assert!(Format::Protobuf.decode(text).is_err());
        assert!(Format::Json.decode(binary).is_err());
    }
}
