//! Connections to nodes: TLS with the certificate of the moment, watched so that a denied node is cut off.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parlance_proto::limits::LINK_FRAME_BYTES_MAX;
use parlance_proto::link::v1::link_client::LinkClient;
use parlance_tls::{ClusterTls, Connections, Watched, serial_of};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;

/// A connection takes no longer.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// HTTP/2 pings, and how long their answer may take.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// Flow-control window of a link; the default of 64 KiB stalls it.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const ALPN: &[u8] = b"h2";

/// Dials nodes with this gateway's certificate.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) tls: Arc<ClusterTls>,
    pub(super) connections: Connections,
}

impl Dialler {
    /// Connects to the node at `address`, whose certificate must have this name, with the settings that long streams need.
    pub async fn connect(
        &self,
        address: &str,
        name: String,
    ) -> Result<LinkClient<Channel>, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))? // the connector adds TLS
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let connector = Connector {
            dialler: self.clone(),
            address: address.into(),
            name: name.into(),
        };
        let channel = endpoint.connect_with_connector(connector).await?;
        Ok(LinkClient::new(channel)
            .max_decoding_message_size(LINK_FRAME_BYTES_MAX)
            .max_encoding_message_size(LINK_FRAME_BYTES_MAX))
    }

    async fn dial(&self, address: &str, name: &str) -> io::Result<Node> {
        let config = self.tls.client_config(ALPN).map_err(io::Error::other)?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await?;
        let peer = serial_of(stream.get_ref().1.peer_certificates())?;
        let denied = self.tls.denied();
        Ok(TokioIo::new(self.connections.watch(stream, peer, denied)))
    }
}

type Node = TokioIo<Watched<TlsStream<TcpStream>>>;

/// What tonic asks for each new connection of a channel.
struct Connector {
    dialler: Dialler,
    address: Arc<str>,
    name: Arc<str>,
}

impl Service<Uri> for Connector {
    type Response = Node;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Node>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialler = self.dialler.clone();
        let (address, name) = (self.address.clone(), self.name.clone());
        Box::pin(async move { dialler.dial(&address, &name).await })
    }
}

/// An error and what it comes from: the transport's errors say what went wrong in their sources only.
pub(super) fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
