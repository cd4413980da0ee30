//! A socket that gives only so many bytes until it is told that its client may send more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket with a bound on what is read from it.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    left: Option<usize>,
    exhausted: bool,
}

impl<S> Metered<S> {
    /// A socket without a bound.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            left: None,
            exhausted: false,
        }
    }

    /// From here on so many bytes are read, and then an error; none means no bound.
    pub fn limit(&mut self, bytes: Option<usize>) {
        self.left = bytes;
    }

    /// Whether the client sent more than the bound allowed.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted
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
        if let Some(left) = self.left {
            if read > left {
                self.exhausted = true;
                return Poll::Ready(Err(io::Error::other("too much came before a login")));
            }
            self.left = Some(left - read);
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
