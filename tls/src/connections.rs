//! The connections of a listener or a dialler, by the certificate of the other side, so that they can be cut when it is
//! denied.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use parlance_proto::tls::{CertificateFacts, DenyList, Serial};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::metrics;

/// Live connections. Clones are the same set.
#[derive(Clone, Default)]
pub struct Connections {
    live: Arc<Mutex<HashMap<u64, Live>>>,
    next: Arc<AtomicU64>,
}

struct Live {
    peer: Serial,
    cut: CancellationToken,
}

/// The serial number of a peer's certificate, after a handshake.
///
/// # Errors
/// A peer without one, which our configurations do not let in.
pub fn serial_of(chain: Option<&[CertificateDer<'_>]>) -> io::Result<Serial> {
    let leaf = chain.and_then(<[_]>::first);
    let leaf = leaf.ok_or_else(|| io::Error::other("the peer has no certificate"))?;
    let facts = CertificateFacts::of(leaf).map_err(io::Error::other)?;
    Ok(facts.serial)
}

impl Connections {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.live.lock().len()
    }

    /// Takes a connection in after its handshake.
    pub fn watch<S>(&self, stream: S, peer: Serial, denied: &DenyList) -> Watched<S> {
        let cut = CancellationToken::new();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let live = Live {
            peer: peer.clone(),
            cut: cut.clone(),
        };
        self.live.lock().insert(id, live);
        // Denied between the handshake and now.
        if denied.contains(&peer) {
            cut.cancel();
        }
        Watched {
            stream,
            ended: Box::pin(cut.clone().cancelled_owned()),
            cut,
            _place: Place {
                id,
                connections: self.clone(),
            },
        }
    }

    /// Cuts the connections of those who are denied; answers how many.
    pub fn cut(&self, denied: &DenyList) -> usize {
        let live = self.live.lock();
        let found = live.values().filter(|live| denied.contains(&live.peer));
        let cut = found.map(|live| live.cut.cancel()).count();
        metrics::denied(cut);
        cut
    }
}

/// Takes the connection out of the set when it is dropped.
struct Place {
    id: u64,
    connections: Connections,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.live.lock().remove(&self.id);
    }
}

/// A stream that ends with an error when its peer is denied.
pub struct Watched<S> {
    stream: S,
    cut: CancellationToken,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Place,
}

impl<S> Watched<S> {
    /// What it watches.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

fn denied() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the peer's certificate is denied",
    )
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Whoever reads is woken by the cut.
        if this.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(denied()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.cut.is_cancelled() {
            return Poll::Ready(Err(denied()));
        }
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.cut.is_cancelled() {
            return Poll::Ready(Err(denied()));
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: Connected> Connected for Watched<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn who_is_denied_is_cut_off_and_nobody_else() {
        let (connections, denied) = (Connections::default(), DenyList::default());
        let serial = |text: &str| text.parse::<Serial>().unwrap();
        let (near_one, mut far_one) = tokio::io::duplex(64);
        let (near_two, mut far_two) = tokio::io::duplex(64);
        let mut one = connections.watch(near_one, serial("01"), &denied);
        let mut two = connections.watch(near_two, serial("02"), &denied);
        let waiting = tokio::spawn(async move {
            let read = one.read_u8().await;
            let written = one.write_all(b"x").await;
            (read.err(), written.err())
        });
        denied.set(BTreeSet::from([serial("01")]));
        assert_eq!(connections.cut(&denied), 1);
        let (read, written) = waiting.await.unwrap();
        for error in [read.unwrap(), written.unwrap()] {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        }
        far_two.write_u8(7).await.unwrap();
        assert_eq!(two.read_u8().await.unwrap(), 7);
        assert_eq!(far_one.read(&mut [0]).await.unwrap(), 0, "it is closed");
        drop(two);
        assert_eq!(connections.count(), 0);

        let (late, _far) = tokio::io::duplex(64);
        let mut late = connections.watch(late, serial("01"), &denied);
        assert!(late.read_u8().await.is_err(), "denied after its handshake");
    }
}
