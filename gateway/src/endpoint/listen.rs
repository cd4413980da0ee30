//! Listeners: accept, TLS, and a bound on the connections of all of them together.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::{ClientStream, Connection, Endpoint, Shared};
use crate::config::{Listener, ListenerTls};
use crate::error::StartError;
use crate::metrics::{self, Accepted};

/// Connections that may wait to be accepted; the kernel may allow fewer. When all clients of a lost gateway come at once, what
/// does not fit is tried again by the kernel after one second, then two, then four.
const BACKLOG: u32 = 4096;
/// After a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener.
pub struct Bound {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    settings: Listener,
}

impl Bound {
    /// Reads the certificate and binds the address.
    pub async fn new(settings: &Listener) -> Result<Self, StartError> {
        let bind = |source| StartError::Bind {
            address: settings.address,
            source,
        };
        let tls = settings.tls.as_ref().map(acceptor).transpose()?;
        let socket = listen(settings.address).map_err(bind)?;
        Ok(Self {
            address: socket.local_addr().map_err(bind)?,
            socket,
            tls,
            settings: settings.clone(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until dropped.
    pub async fn run(self, shared: Arc<Shared>, places: Arc<Semaphore>) {
        let endpoint = Endpoint::new(self.settings.protocol, &shared);
        loop {
            let stream = match self.socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Above the limit a connection is closed at once: the client tries elsewhere.
            let Ok(place) = places.clone().try_acquire_owned() else {
                metrics::refused("connections");
                continue;
            };
            let accepted = Accepted::new();
            let _ = stream.set_nodelay(true);
            let connection = Connection {
                shared: shared.clone(),
                place: Arc::new(place),
            };
            let (tls, endpoint) = (self.tls.clone(), endpoint.clone());
            shared.tasks.spawn(async move {
                let limit = connection.shared.api.limits.upgrade_timeout();
                if let Ok(Some(stream)) = timeout(limit, secure(tls, stream)).await {
                    endpoint.serve(stream, connection).await;
                }
                drop(accepted);
            });
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // As `TcpListener::bind` does.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn secure(tls: Option<TlsAcceptor>, stream: TcpStream) -> Option<ClientStream> {
    Some(match tls {
        None => Either::Left(stream),
        Some(tls) => Either::Right(Box::new(tls.accept(stream).await.ok()?)),
    })
}

fn acceptor(files: &ListenerTls) -> Result<TlsAcceptor, StartError> {
    let bad = |path: &Path, reason: String| StartError::ListenerTls {
        path: path.to_owned(),
        reason,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|e| bad(&files.cert, e.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|e| bad(&files.key, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| bad(&files.cert, e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
