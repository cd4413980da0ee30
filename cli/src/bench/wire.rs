//! A WebSocket client of the fewest instructions, for the load generator: on a small machine every microsecond that
//! the generator takes is one that the cluster does not get.
//!
//! Plain `ws://` only. It trusts the gateway to send whole, unfragmented frames, and ends on anything else.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, anyhow, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const READ_BYTES: usize = 8 * 1024;
/// The largest answer that any run asks for is far below.
const FRAME_BYTES_MAX: u64 = 1 << 20;

/// A gateway's address, taken from `ws://host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayUrl {
    pub address: SocketAddr,
    host: String,
    path: String,
}

impl GatewayUrl {
    /// Parses and resolves it.
    pub async fn resolve(url: &str) -> anyhow::Result<Self> {
        let (host, path) = split_url(url)?;
        let address = tokio::net::lookup_host(host)
            .await
            .with_context(|| format!("resolve {host}"))?
            .next()
            .with_context(|| format!("resolve {host}: no address"))?;
        Ok(Self {
            address,
            host: host.to_owned(),
            path: path.to_owned(),
        })
    }
}

fn split_url(url: &str) -> anyhow::Result<(&str, &str)> {
    let rest = url.strip_prefix("ws://").with_context(|| {
        format!("{url:?} cannot be loaded: the load generator speaks plain ws:// only, so that its own TLS is not measured")
    })?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    Ok((host, if path.is_empty() { "/" } else { path }))
}

/// What came in.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// A protocol frame.
    Frame(Bytes),
    /// The peer asks for a pong with these bytes.
    Ping(Bytes),
    /// Nothing to act on.
    Other,
    /// The close code, if one was given.
    Close(Option<u16>),
}

/// One open socket.
pub struct Wire {
    stream: TcpStream,
    inbox: BytesMut,
}

impl Wire {
    /// Connects and upgrades; `source` is the local address to come from.
    pub async fn connect(url: &GatewayUrl, source: Option<IpAddr>) -> anyhow::Result<Self> {
        let socket = if url.address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(source) = source {
            socket
                .bind(SocketAddr::new(source, 0))
                .with_context(|| format!("bind {source}"))?;
        }
        let mut stream = socket
            .connect(url.address)
            .await
            .with_context(|| format!("connect to {}", url.address))?;
        stream.set_nodelay(true)?;
        // The key only proves that the server speaks WebSocket: any will do.
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: cGFybGFuY2UtYmVuY2gtMQ==\r\nSec-WebSocket-Protocol: parlance.v1\r\n\r\n",
            url.path, url.host
        );
        stream
            .write_all(request.as_bytes())
            .await
            .context("send the upgrade")?;
        let mut inbox = BytesMut::new();
        loop {
            if let Some(end) = inbox.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = inbox.split_to(end + 4);
                if !head.starts_with(b"HTTP/1.1 101") {
                    bail!(
                        "the gateway refused the upgrade: {}",
                        String::from_utf8_lossy(&head).lines().next().unwrap_or("")
                    );
                }
                return Ok(Self { stream, inbox });
            }
            if inbox.len() > READ_BYTES
                || stream
                    .read_buf(&mut inbox)
                    .await
                    .context("read the upgrade")?
                    == 0
            {
                bail!("the gateway gave no answer to the upgrade");
            }
        }
    }

    /// Writes frames made by [`put_frame`].
    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream
            .write_all(bytes)
            .await
            .context("write to the gateway")
    }

    /// What has been read already, if it is whole.
    pub fn buffered(&mut self) -> anyhow::Result<Option<Incoming>> {
        let parsed = take_frame(&mut self.inbox)?;
        if self.inbox.is_empty() {
            // Idle connections keep no buffer.
            self.inbox = BytesMut::new();
        }
        Ok(parsed)
    }

    /// Reads some more. Cancel safe.
    pub async fn fill(&mut self) -> anyhow::Result<()> {
        self.inbox.reserve(READ_BYTES);
        if self
            .stream
            .read_buf(&mut self.inbox)
            .await
            .context("read from the gateway")?
            == 0
        {
            bail!("the gateway closed the connection");
        }
        Ok(())
    }

    /// Waits for the next frame. Cancel safe.
    pub async fn next(&mut self) -> anyhow::Result<Incoming> {
        loop {
            if let Some(incoming) = self.buffered()? {
                return Ok(incoming);
            }
            self.fill().await?;
        }
    }

    /// Whether the gateway has closed or reset it.
    pub fn is_closed(&self) -> bool {
        let mut byte = [0];
        match self.stream.try_read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(e) => e.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Appends a client's binary frame.
pub fn put_frame(out: &mut BytesMut, payload: &[u8]) {
    put(out, BINARY, payload);
}

/// Appends a pong.
pub fn put_pong(out: &mut BytesMut, payload: &[u8]) {
    put(out, PONG, payload);
}

fn put(out: &mut BytesMut, opcode: u8, payload: &[u8]) {
    const MASKED: u8 = 0x80;
    out.reserve(payload.len() + 14);
    out.put_u8(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.put_u8(MASKED | length as u8),
        length @ 126..65_536 => {
            out.put_u8(MASKED | 126);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(MASKED | 127);
            out.put_u64(length as u64);
        }
    }
    // A mask of zeros leaves the bytes as they are. Masks guard browsers against hostile pages: there is none here.
    out.put_u32(0);
    out.put_slice(payload);
}

fn take_frame(inbox: &mut BytesMut) -> anyhow::Result<Option<Incoming>> {
    let Some(&[first, second]) = inbox.first_chunk::<2>() else {
        return Ok(None);
    };
    let mut header = &inbox[2..];
    let length = match second {
        126 if header.len() >= 2 => u64::from(header.get_u16()),
        127 if header.len() >= 8 => header.get_u64(),
        126 | 127 => return Ok(None),
        128.. => bail!("the gateway sent a masked frame"),
        short => u64::from(short),
    };
    if length > FRAME_BYTES_MAX {
        bail!("the gateway sent a frame of {length} bytes");
    }
    let (header_bytes, length) = (inbox.len() - header.len(), length as usize);
    if header.len() < length {
        return Ok(None);
    }
    inbox.advance(header_bytes);
    let payload = inbox.split_to(length).freeze();
    match first {
        0x82 => Ok(Some(Incoming::Frame(payload))),
        f if f == 0x80 | PING => Ok(Some(Incoming::Ping(payload))),
        f if f == 0x80 | PONG => Ok(Some(Incoming::Other)),
        f if f == 0x80 | CLOSE => Ok(Some(Incoming::Close(
            payload
                .first_chunk::<2>()
                .map(|code| u16::from_be_bytes(*code)),
        ))),
        other => Err(anyhow!(
            "the gateway sent a frame of an unexpected kind: {other:#x}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_server(opcode: u8, payload: &[u8]) -> BytesMut {
        let mut masked = BytesMut::new();
        put(&mut masked, opcode, payload);
        // A server's frame is the same without the mask.
        let mask_at = match payload.len() {
            0..126 => 2,
            126..65_536 => 4,
            _ => 10,
        };
        let mut out = BytesMut::from(&masked[..mask_at]);
        out[1] &= 0x7f;
        out.extend_from_slice(&masked[mask_at + 4..]);
        out
    }

    #[test]
    fn frames_of_all_lengths_come_back_and_partial_ones_wait() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7; length];
            let whole = from_server(BINARY, &payload);
            for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
                assert_eq!(
                    take_frame(&mut BytesMut::from(&whole[..cut])).unwrap(),
                    None,
                    "{length} cut at {cut}"
                );
            }
            let mut twice = whole.clone();
            twice.extend_from_slice(&whole);
            assert_eq!(
                take_frame(&mut twice).unwrap(),
                Some(Incoming::Frame(payload.into()))
            );
            assert_eq!(twice, whole);
        }
        let mut close = from_server(CLOSE, &[0x0f, 0xa0, b'x']);
        assert_eq!(
            take_frame(&mut close).unwrap(),
            Some(Incoming::Close(Some(4000)))
        );
    }

    #[test]
    fn what_it_does_not_understand_ends_it() {
        let too_long = [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat();
        for bytes in [&[0x82, 0x81][..], &[0x02, 0], &[0x80, 0], &too_long] {
            assert!(take_frame(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn only_plain_addresses_are_taken() {
        assert_eq!(split_url("ws://h:1/ws").unwrap(), ("h:1", "/ws"));
        assert_eq!(split_url("ws://h:1").unwrap(), ("h:1", "/"));
        assert!(split_url("wss://h:1/ws").is_err());
    }
}
