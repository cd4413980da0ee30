//! Listeners: accept, TLS, and a bound on the connections of all of them together.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parlance_tls::{Followed, Seldom};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::certificate::{self, ListenerCertificate};
use super::{ClientStream, Connection, Endpoint, Metered, Shared, proxy};
use crate::api::Api;
use crate::config::Listener;
use crate::error::StartError;
use crate::metrics::{Accepted, accept_failed, refused};

/// Connections that may wait to be accepted; the kernel may allow fewer. When all clients of a lost gateway come at once, what
/// does not fit is tried again by the kernel after one second, then two, then four.
const BACKLOG: u32 = 4096;
/// Bytes that the kernel takes beyond what is on its way to a client: what waits is here, where it is bounded and can be left
/// out, and an answer to a ping is not behind megabytes.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 64 * 1024;
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
        let seldom = Seldom::new("accepts of clients that failed");
        loop {
            let (stream, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    accept_failed();
                    if seldom.tells(&error.to_string()) {
                        tracing::error!(%error, "connections of clients cannot be accepted");
                    }
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let proxies = &self.settings.proxies;
            let proxied = !proxies.is_empty();
            if proxied && !proxies.iter().any(|proxy| proxy.contains(peer.ip())) {
                refused("not_a_proxy");
                tracing::debug!(%peer, "refused: only proxies connect here");
                continue;
            }
            if !proxied && !may_come(&shared.api, peer) {
                continue;
            }
            // Above the limit a connection is closed at once: the client tries elsewhere.
            let Ok(place) = places.clone().try_acquire_owned() else {
                refused("connections");
                continue;
            };
            let accepted = Accepted::new();
            let _ = stream.set_nodelay(true);
            #[cfg(target_os = "linux")]
            let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
            let accept = Accept {
                shared: shared.clone(),
                place,
                since: Instant::now(),
                peer,
                proxied,
                tls: self.tls.clone(),
                endpoint: endpoint.clone(),
            };
            shared.tasks.spawn(async move {
                accept.serve(stream).await;
                drop(accepted);
            });
        }
    }
}

/// Whoever connects too often is turned away before it costs a handshake.
fn may_come(api: &Api, client: SocketAddr) -> bool {
    let checked = api.bounds.connections.check(client.ip());
    checked.map_err(|refusal| refused(refusal.reason)).is_ok()
}

/// A socket that was accepted, up to where the endpoint's own task takes the connection on.
struct Accept {
    shared: Arc<Shared>,
    place: OwnedSemaphorePermit,
    since: Instant,
    peer: SocketAddr,
    proxied: bool,
    tls: Option<TlsAcceptor>,
    endpoint: Endpoint,
}

impl Accept {
    async fn serve(self, mut stream: TcpStream) {
        let limit = self.shared.api.limits.upgrade_timeout();
        let mut address = self.peer;
        if self.proxied {
            match timeout(limit, proxy::client_of(&mut stream)).await {
                Ok(Ok(client)) => address = client.unwrap_or(address),
                failed => {
                    tracing::debug!(proxy = %self.peer, ?failed, "refused: no address from the proxy");
                    return refused("not_a_proxy");
                }
            }
            if !may_come(&self.shared.api, address) {
                return;
            }
        }
        let waiting = &self.shared.api.bounds.waiting;
        let waiting = Arc::new(waiting.enter(address.ip(), self.since));
        let connection = Connection {
            shared: self.shared,
            place: Arc::new(self.place),
            waiting: waiting.clone(),
            address,
        };
        let served = async {
            match timeout(limit, secure(self.tls, stream)).await {
                Ok(Some(stream)) => self.endpoint.serve(stream, connection).await,
                _ => refused("handshake"),
            }
        };
        tokio::select! {
            () = served => {}
            () = waiting.evicted() => {}
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
    Some(Metered::new(match tls {
        None => Either::Left(stream),
        Some(tls) => Either::Right(Box::new(tls.accept(stream).await.ok()?)),
    }))
}
