//! A WebSocket client without a library behind it: it sends what no client of ours would, and reads as slowly as it
//! likes.

use anyhow::{Result, bail, ensure};
use parlance_client::Format;
use parlance_proto::client::v1 as proto;
use parlance_tests::client::login_request;
use prost::Message as _;
use proto::client_frame::Body as Ask;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::SOON;

/// An upgrade as it should be.
pub(crate) async fn upgrade(stream: TcpStream, gateway: std::net::SocketAddr) -> Result<TcpStream> {
    upgrade_offering(stream, gateway, Some(Format::Protobuf.subprotocol())).await
}

/// An upgrade that offers a subprotocol, or none. The error is the gateway's answer.
pub(crate) async fn upgrade_offering(
    mut stream: TcpStream,
    gateway: std::net::SocketAddr,
    subprotocol: Option<&str>,
) -> Result<TcpStream> {
    let offer = subprotocol.map_or_else(String::new, |name| {
        format!("Sec-WebSocket-Protocol: {name}\r\n")
    });
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {gateway}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await?;
    ensure!(
        answer[..read].starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&answer[..read])
    );
    Ok(stream)
}

/// Reads on until the other end hangs up.
pub(crate) async fn ends(stream: &mut TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    match tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await {
        Err(_) => bail!("not hung up within {SOON:?}"),
        // A reset is an end, too.
        Ok(_) => Ok(()),
    }
}

pub(crate) async fn upgrade_and_login(
    stream: TcpStream,
    gateway: std::net::SocketAddr,
    token: &str,
) -> Result<TcpStream> {
    let mut stream = upgrade(stream, gateway).await?;
    write_frame(&mut stream, Ask::Login(login_request(token))).await?;
    Ok(stream)
}

/// A masked binary frame with a mask of zeros, its length in two bytes.
pub(crate) async fn write_frame(stream: &mut TcpStream, body: Ask) -> Result<()> {
    let request_id = 1;
    let frame = proto::ClientFrame {
        request_id,
        body: Some(body),
    }
    .encode_to_vec();
    let length = u16::try_from(frame.len())?.to_be_bytes();
    let bytes = [&[0x82, 0x80 | 126][..], &length, &[0; 4], &frame].concat();
    stream.write_all(&bytes).await?;
    Ok(())
}

/// The frames of the protocol in what a gateway has said so far.
pub(crate) fn server_frames(mut said: &[u8]) -> Result<Vec<proto::ServerFrame>> {
    const BINARY: u8 = 0x82;
    let mut frames = Vec::new();
    while let [opcode, length, rest @ ..] = said {
        let (length, rest) = match (length, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (126, _) => break,
            (127, _) => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (usize::try_from(u64::from_be_bytes(*length))?, rest),
                None => break,
            },
            (length, rest) => (usize::from(*length), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        if *opcode == BINARY {
            frames.push(proto::ServerFrame::decode(payload)?);
        }
        said = rest;
    }
    Ok(frames)
}
