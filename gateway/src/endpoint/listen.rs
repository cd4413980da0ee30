//! Listeners: accept, TLS, and a bound on the connections of all of them together.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parlance_tls::Followed;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::certificate::{self, ListenerCertificate};
use super::{ClientStream, Connection, Endpoint, Shared};
use crate::config::Listener;
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
    certificate: Option<Arc<Followed<ListenerCertificate>>>,
    tls: Option<TlsAcceptor>,
    settings: Listener,
}

impl Bound {
    /// Reads the certificate and binds the address.
    pub fn new(number: usize, settings: &Listener) -> Result<Self, StartError> {
        let bind = |source| StartError::Bind {
            address: settings.address,
            source,
        };
        let files = settings.tls.as_ref();
        let certificate = files
            .map(|files| certificate::follow(number, files))
            .transpose()?;
        let tls = certificate.as_ref().map(certificate::acceptor);
        let socket = listen(settings.address).map_err(bind)?;
        Ok(Self {
            address: socket.local_addr().map_err(bind)?,
            socket,
            tls: tls.transpose()?,
            certificate,
            settings: settings.clone(),
        })
    }

    /// Its certificate; none if it speaks plain text.
    pub fn certificate(&self) -> Option<Arc<Followed<ListenerCertificate>>> {
        self.certificate.clone()
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
