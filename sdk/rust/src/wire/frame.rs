//! WebSocket frames (RFC 6455 §5) in byte buffers: a client's are written masked, a gateway's are read unmasked.

use std::io::Cursor;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::OpCode;

use super::{FRAME_BYTES_MAX, WireError};

/// Header and mask of the longest frame.
const HEADER_BYTES_MAX: usize = 14;

/// Appends a whole frame; `payload` must write exactly `length` bytes.
pub(super) fn put(
    out: &mut BytesMut,
    opcode: OpCode,
    length: usize,
    payload: impl FnOnce(&mut BytesMut),
) {
    #[allow(
        clippy::disallowed_methods,
        reason = "a mask must be unpredictable: RFC 6455, 5.3"
    )]
    let key: [u8; 4] = rand::random();
    let header = FrameHeader {
        opcode,
        mask: Some(key),
        ..FrameHeader::default()
    };
    out.reserve(HEADER_BYTES_MAX + length);
    // Writing into a buffer that grows cannot fail.
    let _ = header.format(length as u64, &mut out.writer());
    let start = out.len();
    payload(out);
    mask(&mut out[start..], key);
}

/// Takes a frame out, if it is there in full.
pub(super) fn take(inbox: &mut BytesMut) -> Result<Option<(FrameHeader, Bytes)>, WireError> {
    let mut cursor = Cursor::new(&inbox[..]);
    let parsed = FrameHeader::parse(&mut cursor);
    let header_bytes = cursor.position() as usize;
    let Some((header, length)) = parsed.map_err(|e| WireError::Protocol(e.to_string()))? else {
        return Ok(None);
    };
    if header.mask.is_some() || header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(WireError::Protocol(
            "a masked frame, or one with an extension".to_owned(),
        ));
    }
    if length > FRAME_BYTES_MAX as u64 {
        return Err(WireError::Protocol(format!("a frame of {length} bytes")));
    }
    let length = length as usize;
    if inbox.len() < header_bytes + length {
        return Ok(None);
    }
    inbox.advance(header_bytes);
    Ok(Some((header, inbox.split_to(length).freeze())))
}

/// Eight bytes at a time, which the compiler turns into wider instructions.
fn mask(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([
        key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3],
    ]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::frame::coding::Data;

    const BINARY: OpCode = OpCode::Data(Data::Binary);

    fn from_gateway(payload: &[u8]) -> BytesMut {
        let header = FrameHeader {
            opcode: BINARY,
            ..FrameHeader::default()
        };
        let mut out = BytesMut::new();
        header
            .format(payload.len() as u64, &mut (&mut out).writer())
            .unwrap();
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn frames_of_all_lengths_come_back_and_partial_ones_wait() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7; length];
            let whole = from_gateway(&payload);
            for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
                let mut inbox = BytesMut::from(&whole[..cut]);
                assert!(take(&mut inbox).unwrap().is_none(), "{length} cut at {cut}");
                assert_eq!(inbox.len(), cut);
            }
            let mut twice = whole.clone();
            twice.extend_from_slice(&whole);
            let (header, taken) = take(&mut twice).unwrap().unwrap();
            assert_eq!((header.opcode, taken), (BINARY, payload.into()));
            assert_eq!(twice, whole);
        }
    }

    #[test]
    fn a_clients_frames_are_masked_with_the_key_in_their_header() {
        for length in [0, 1, 7, 8, 9, 300] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut out = BytesMut::from(&b"before"[..]);
            put(&mut out, BINARY, length, |out| out.put_slice(&payload));
            out.advance(6);
            let mut cursor = Cursor::new(&out[..]);
            let (header, told) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            let start = cursor.position() as usize;
            let mut body = out.split_off(start);
            mask(&mut body, header.mask.unwrap());
            assert_eq!((told, &body[..]), (length as u64, &payload[..]));
        }
    }

    #[test]
    fn what_the_protocol_does_not_allow_is_an_error() {
        let too_long = [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat();
        let masked = &[0x82, 0x81, 1, 2, 3, 4, 5][..];
        for bytes in [masked, &[0x83, 0], &[0xc2, 0], &too_long] {
            assert!(take(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }
}
