//! Bytes below the protocol: broken upgrades, broken WebSockets, noise.

use anyhow::{Context, Result, ensure};
use parlance_tests::cluster::Cluster;
use parlance_tests::cluster::health::http_get;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use crate::SOON;
use crate::raw::{ends, upgrade, upgrade_offering};

pub(crate) async fn bad_upgrades(cluster: &Cluster) -> Result<()> {
    let gateway = cluster.address.gateway(1);
    for subprotocol in [None, Some("chat"), Some("parlance.v999")] {
        let stream = TcpStream::connect(gateway).await?;
        let refused = upgrade_offering(stream, gateway, subprotocol).await.err();
        let text = refused.map(|error| error.to_string()).unwrap_or_default();
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
