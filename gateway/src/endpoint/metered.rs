//! A socket that gives only so many bytes until it is told that its client may send more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Stands for no bound.
const UNBOUNDED: usize = usize::MAX;
/// Stands for a bound that was passed.
const EXHAUSTED: usize = usize::MAX - 1;

/// A socket with a bound on what is read from it. One number says all: every connection has it.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    left: usize,
}

impl<S> Metered<S> {
    /// A socket without a bound.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            left: UNBOUNDED,
        }
    }

    /// From here on so many bytes are read, and then an error; none means no bound.
    pub fn limit(&mut self, bytes: Option<usize>) {
        self.left = bytes.map_or(UNBOUNDED, |bytes| bytes.min(EXHAUSTED - 1));
    }

    /// Whether the client sent more than the bound allowed.
    pub fn is_exhausted(&self) -> bool {
        self.left == EXHAUSTED
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        match self.left {
            UNBOUNDED => {}
            left if left < EXHAUSTED && read <= left => self.left = left - read,
            _ => {
                self.left = EXHAUSTED;
                return Poll::Ready(Err(io::Error::other("too much came before a login")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn more_than_the_bound_is_an_error_until_the_bound_is_lifted() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Metered::new(server);
        server.limit(Some(10));
        client.write_all(&[0; 10]).await.unwrap();
        let mut buffer = [0; 32];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 10);
        client.write_all(&[0; 1]).await.unwrap();
        assert!(server.read(&mut buffer).await.is_err());
        assert!(server.is_exhausted());
        server.limit(None);
        client.write_all(&[0; 32]).await.unwrap();
        assert_eq!(server.read(&mut buffer).await.unwrap(), 32);
    }
}
