//! Length-prefixed messages on a QUIC stream.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use parlance_proto::ids::NodeId;
use parlance_proto::raft::v1::StreamHello;
use parlance_proto::version::{PEER_PROTOCOLS, common, mismatch};
use prost::Message;
use quinn::{RecvStream, SendStream};

/// Bytes of one message on a stream. Appends hold about 1 MiB, and at least one entry however large.
const FRAME_BYTES_MAX: u32 = 64 << 20;
/// A frame's memory grows with what arrives, in steps of this.
const READ_STEP_BYTES: usize = 256 * 1024;

pub(super) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(4 + length);
    buffer.put_u32(length as u32);
    // Encoding into memory that grows does not fail.
    let _ = message.encode(&mut buffer);
    buffer.freeze()
}

pub(super) async fn write(stream: &mut SendStream, message: &impl Message) -> io::Result<()> {
    Ok(stream.write_chunk(encode(message)).await?)
}

/// The next message; none at the end of the stream.
pub(super) async fn read<M: Message + Default>(stream: &mut RecvStream) -> io::Result<Option<M>> {
    let mut prefix = [0; 4];
    match stream.read_exact(&mut prefix).await {
        Ok(()) => {}
        Err(quinn::ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(e) => return Err(io::Error::other(e)),
    }
    let length = u32::from_be_bytes(prefix);
    if length > FRAME_BYTES_MAX {
        return Err(invalid(format!(
            "frame of {length} bytes, at most {FRAME_BYTES_MAX} are allowed"
        )));
    }
    let length = length as usize;
    let mut body = BytesMut::new();
    while body.len() < length {
        let start = body.len();
        body.resize(length.min(start + READ_STEP_BYTES), 0);
        stream
            .read_exact(&mut body[start..])
            .await
            .map_err(io::Error::other)?;
    }
    M::decode(body.freeze())
        .map(Some)
        .map_err(|e| invalid(e.to_string()))
}

pub(super) fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The first message of a stream, checked against the certificate.
pub(super) async fn read_hello(
    stream: &mut RecvStream,
    node_id: NodeId,
) -> io::Result<StreamHello> {
    let hello: StreamHello = read(stream)
        .await?
        .ok_or_else(|| invalid("stream without hello".to_owned()))?;
    if common(PEER_PROTOCOLS, hello.protocol).is_none() {
        return Err(invalid(mismatch("peer", PEER_PROTOCOLS, hello.protocol)));
    }
    if hello.node_id != node_id.0 {
        return Err(invalid(format!(
            "the certificate is node {node_id}'s, the hello is node {}'s",
            hello.node_id
        )));
    }
    Ok(hello)
}
