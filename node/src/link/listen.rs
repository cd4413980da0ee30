//! Takes connections of gateways and operators: TLS with the certificate of the moment, within a time, and no more than
//! the node has room for. Who says nothing, or says it from one address again and again, keeps nobody else out.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use parlance_tls::{ClusterTls, Connections, Seldom, Watched, serial_of};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::metrics;

const ALPN: &[u8] = b"h2";
/// A handshake takes no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at a time.
const HANDSHAKES_MAX: usize = 512;
/// Of one address: a host that opens connections and says nothing takes no more places than these.
const HANDSHAKES_PER_ADDRESS_MAX: usize = 32;
/// After an accept that failed, as it does when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are ready for the server.
const READY_MAX: usize = 64;

/// A connection whose certificate is good.
pub type Stream = Watched<TlsStream<TcpStream>>;

/// Takes connections from the listener until the answer is dropped; those that are there are in `connections`.
pub fn incoming(
    listener: TcpListener,
    tls: Arc<ClusterTls>,
    connections: Connections,
    connections_max: usize,
) -> ReceiverStream<io::Result<Stream>> {
    let (ready, incoming) = mpsc::channel(READY_MAX);
    let door = Door {
        tls,
        connections,
        connections_max,
        handshakes: Handshakes::default(),
    };
    tokio::spawn(async move {
        tokio::select! {
            () = accept(listener, Arc::new(door), &ready) => {}
            () = ready.closed() => {}
        }
    });
    ReceiverStream::new(incoming)
}

struct Door {
    tls: Arc<ClusterTls>,
    connections: Connections,
    connections_max: usize,
    handshakes: Handshakes,
}

async fn accept(listener: TcpListener, door: Arc<Door>, ready: &mpsc::Sender<io::Result<Stream>>) {
    let seldom = Seldom::new("accepts of gateways and operators that failed");
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                metrics::accept_failed();
                if seldom.tells(&error.to_string()) {
                    tracing::error!(%error, "connections of gateways and operators cannot be accepted");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = door.place(from) else {
            metrics::connection_refused("too_many");
            continue;
        };
        let (door, ready) = (door.clone(), ready.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE_TIMEOUT, door.secure(stream)).await {
                Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                Ok(Err(error)) => {
                    metrics::connection_refused("handshake");
                    tracing::debug!(%from, %error, "a handshake failed");
                }
                Err(_) => {
                    metrics::connection_refused("timeout");
                    tracing::debug!(%from, "a handshake was not done in time");
                }
            }
            drop(place);
        });
    }
}

impl Door {
    fn place(&self, from: SocketAddr) -> Option<Handshake> {
        if self.connections.count() >= self.connections_max {
            return None;
        }
        self.handshakes.begin(from.ip())
    }

    async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        let config = self.tls.server_config(ALPN).map_err(io::Error::other)?;
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let peer = serial_of(stream.get_ref().1.peer_certificates())?;
        Ok(self.connections.watch(stream, peer, self.tls.denied()))
    }
}

/// Handshakes under way, by address.
#[derive(Clone, Default)]
struct Handshakes(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One handshake's place, until it is dropped.
struct Handshake {
    all: Handshakes,
    from: IpAddr,
}

impl Handshakes {
    fn begin(&self, from: IpAddr) -> Option<Handshake> {
        let mut under_way = self.0.lock();
        if under_way.values().sum::<usize>() >= HANDSHAKES_MAX {
            return None;
        }
        let of_address = under_way.entry(from).or_default();
        if *of_address >= HANDSHAKES_PER_ADDRESS_MAX {
            return None;
        }
        *of_address += 1;
        let all = self.clone();
        Some(Handshake { all, from })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut under_way = self.all.0.lock();
        if let Some(of_address) = under_way.get_mut(&self.from) {
            *of_address -= 1;
            if *of_address == 0 {
                under_way.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_all_places() {
        let handshakes = Handshakes::default();
        let one: IpAddr = [10, 0, 0, 1].into();
        let begun: Vec<_> = std::iter::from_fn(|| handshakes.begin(one)).collect();
        assert_eq!(begun.len(), HANDSHAKES_PER_ADDRESS_MAX);
        assert!(handshakes.begin([10, 0, 0, 2].into()).is_some());
        drop(begun);
        assert!(handshakes.begin(one).is_some());
        assert!(handshakes.0.lock().is_empty(), "nothing is kept");
    }

    #[test]
    fn many_addresses_take_a_bounded_number_of_places() {
        let handshakes = Handshakes::default();
        let address = |number: usize| IpAddr::from((number as u32).to_be_bytes());
        let begun: Vec<_> = (0..2 * HANDSHAKES_MAX)
            .filter_map(|number| handshakes.begin(address(number)))
            .collect();
        assert_eq!(begun.len(), HANDSHAKES_MAX);
    }
}
