//! The QUIC endpoint of a node: socket, TLS, timers and windows.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use parlance_tls::ClusterTls;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls_pki_types::CertificateDer;

use super::QuicConfig;

const ALPN: &[u8] = b"parlance-raft/1";
const KEEP_ALIVE: Duration = Duration::from_millis(500);
const INITIAL_RTT: Duration = Duration::from_millis(10);
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
const STREAMS_MAX: u32 = 1024;

/// The configurations with the certificate of the moment.
pub(super) fn configs(
    tls: &ClusterTls,
    transport: &Arc<TransportConfig>,
) -> io::Result<(quinn::ServerConfig, quinn::ClientConfig)> {
    let server = tls.server_config(ALPN).map_err(io::Error::other)?;
    let server = QuicServerConfig::try_from(server).map_err(io::Error::other)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(transport.clone());
    let client = tls.client_config(ALPN).map_err(io::Error::other)?;
    let client = QuicClientConfig::try_from(client).map_err(io::Error::other)?;
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(transport.clone());
    Ok((server, client))
}

/// Those that the other side has shown.
pub(super) fn certificates(connection: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    let chain = connection.peer_identity()?;
    chain.downcast().ok().map(|chain| *chain)
}

pub(super) fn transport(config: &QuicConfig) -> io::Result<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.max_idle_timeout(Some(
        IdleTimeout::try_from(config.idle_max).map_err(io::Error::other)?,
    ));
    transport.initial_rtt(INITIAL_RTT);
    transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES));
    transport.receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
    transport.send_window(u64::from(CONNECTION_WINDOW_BYTES));
    transport.max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX));
    transport.max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX));
    transport.send_fairness(false);
    transport.enable_segmentation_offload(config.raft.udp_segmentation_offload);
    Ok(transport)
}

/// A socket with room for a burst of packets: what does not fit there counts as lost on the network.
pub(super) fn bind(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    socket.set_recv_buffer_size(buffer_bytes)?;
    socket.set_send_buffer_size(buffer_bytes)?;
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if receive < buffer_bytes || send < buffer_bytes {
        tracing::warn!(
            wanted = buffer_bytes,
            receive,
            send,
            "the kernel caps udp buffers: raise net.core.rmem_max and net.core.wmem_max, or bursts lose packets"
        );
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
