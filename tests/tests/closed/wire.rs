//! Bytes below the protocol: broken upgrades, broken WebSockets, noise.

use anyhow::{Context, Result, bail, ensure};
use parlance_tests::client::{BINARY, Connection};
use parlance_tests::cluster::Cluster;
use parlance_tests::cluster::health::http_get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::SOON;

pub(crate) async fn bad_upgrades(cluster: &Cluster) -> Result<()> {
    let gateway = cluster.address.gateway(1);
    for subprotocol in [None, Some("chat"), Some("parlance.v999")] {
        let refused = Connection::open_with(&gateway.to_string(), subprotocol)
            .await
            .err();
        let text = refused
            .map(|error| format!("{error:#}"))
            .unwrap_or_default();
        ensure!(
            text.contains("400"),
            "an upgrade with {subprotocol:?} must be refused with 400, got {text:?}"
        );
    }
    let (status, _) = http_get(gateway, "/ws").await?;
    ensure!(
        (400..500).contains(&status),
        "GET /ws without an upgrade answers {status}"
    );
    let (status, _) = http_get(gateway, "/../../etc/passwd").await?;
    ensure!(
        (400..500).contains(&status),
        "a path outside answers {status}"
    );
    // A client that does not mask, with a reserved opcode, and one whose frame claims 2^63 bytes.
    for bytes in [
        &[0x8f, 0x05, 1, 2, 3, 4, 5][..],
        &[
            0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
        ],
    ] {
        let mut stream = upgrade(TcpStream::connect(gateway).await?, gateway).await?;
        stream.write_all(bytes).await?;
        ends(&mut stream)
            .await
            .with_context(|| format!("bytes {bytes:02x?} on a WebSocket"))?;
    }
    Ok(())
}

pub(crate) async fn noise_on_every_port(cluster: &Cluster) -> Result<()> {
    let address = &cluster.address;
    let noise: Vec<u8> = (0..4096_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for port in [
        address.link(1),
        address.gateway(1),
        address.node_ops(1),
        address.gateway_ops(1),
    ] {
        let mut stream = TcpStream::connect(port).await?;
        // It may be hung up on half way.
        let _ = stream.write_all(&noise).await;
        ends(&mut stream)
            .await
            .with_context(|| format!("noise on {port}"))?;
    }
    let socket = UdpSocket::bind((address.raft(1).ip(), 0)).await?;
    for chunk in noise.chunks(1200) {
        socket.send_to(chunk, address.raft(1)).await?;
    }
    cluster.wait_nodes_ready(SOON).await?;
    cluster.wait_gateways_ready(SOON).await
}

/// A WebSocket without a library behind it.
pub(crate) async fn upgrade(
    mut stream: TcpStream,
    gateway: std::net::SocketAddr,
) -> Result<TcpStream> {
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {gateway}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {BINARY}\r\n\r\n"
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
