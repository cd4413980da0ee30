//! The PROXY protocol, version 2: a proxy in front of a listener says where its client is.

use std::io;
use std::net::SocketAddr;

use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What comes before the addresses; its last two bytes are the length of what follows.
const FIXED_BYTES: usize = 16;
/// Bytes behind it: addresses and what a proxy may add. More is no header of a proxy that we know.
const REST_BYTES_MAX: usize = 2048;

/// Reads the header, and not a byte more. None if the proxy speaks for itself, as when it checks whether we live.
pub async fn client_of(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut header = vec![0; FIXED_BYTES];
    stream.read_exact(&mut header).await?;
    if !header.starts_with(PROTOCOL_PREFIX) {
        return Err(invalid("no PROXY header of version 2".to_owned()));
    }
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if rest > REST_BYTES_MAX {
        return Err(invalid(format!("a PROXY header with {rest} bytes")));
    }
    header.resize(FIXED_BYTES + rest, 0);
    stream.read_exact(&mut header[FIXED_BYTES..]).await?;
    let header = Header::try_from(header.as_slice()).map_err(|e| invalid(e.to_string()))?;
    Ok(match (header.command, header.addresses) {
        (Command::Proxy, Addresses::IPv4(of)) => Some((of.source_address, of.source_port).into()),
        (Command::Proxy, Addresses::IPv6(of)) => Some((of.source_address, of.source_port).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use ppp::v2::{Builder, Protocol, Version};

    use super::*;

    fn header(command: Command, source: &str, to: &str) -> Vec<u8> {
        let addresses: (SocketAddr, SocketAddr) = (source.parse().unwrap(), to.parse().unwrap());
        Builder::with_addresses(Version::Two | command, Protocol::Stream, addresses)
            .write_tlv(ppp::v2::Type::NoOp, b"more")
            .unwrap()
            .build()
            .unwrap()
    }

    #[tokio::test]
    async fn the_clients_address_is_read_and_nothing_behind_the_header() {
        for (source, to) in [
            ("192.0.2.7:1234", "192.0.2.1:443"),
            ("[2001:db8::7]:1234", "[2001:db8::1]:443"),
        ] {
            let mut bytes = header(Command::Proxy, source, to);
            bytes.extend_from_slice(b"GET");
            let mut stream = &bytes[..];
            let client = client_of(&mut stream).await.unwrap();
            assert_eq!(client, Some(source.parse().unwrap()));
            assert_eq!(stream, b"GET");
        }
        let local = header(Command::Local, "192.0.2.7:1", "192.0.2.1:2");
        assert_eq!(client_of(&mut &local[..]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let good = header(Command::Proxy, "192.0.2.7:1", "192.0.2.1:2");
        let mut long = good.clone();
        long[14] = 0xff;
        let mut version = good.clone();
        version[12] = 0x11;
        for bad in [
            &b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n"[..],
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            &good[..good.len() - 1],
            &long,
            &version,
            b"",
        ] {
            assert!(client_of(&mut &bad[..]).await.is_err(), "{bad:?}");
        }
    }
}
