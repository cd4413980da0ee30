//! The half of a connection that writes.

use bytes::{BufMut, BytesMut};
use parlance_proto::client::v1::ClientFrame;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tungstenite::protocol::frame::coding::{Control, OpCode};

use super::{Format, WireError, frame};

pub(super) type WriteSocket = Either<OwnedWriteHalf, WriteHalf<TlsStream<TcpStream>>>;

/// Writes frames: they are gathered by the `queue` functions and leave with [`Writer::flush`].
pub struct Writer {
    socket: WriteSocket,
    format: Format,
    out: BytesMut,
}

impl Writer {
    pub(super) fn new(socket: WriteSocket, format: Format) -> Self {
        Self {
            socket,
            format,
            out: BytesMut::new(),
        }
    }

    /// Gathers a frame.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if the frame cannot be encoded.
    pub fn queue(&mut self, frame: &ClientFrame) -> Result<(), WireError> {
        self.format.put(&mut self.out, frame)
    }

    /// Gathers a message of any content, in the kind of WebSocket message that `format` uses. For tests: a gateway
    /// closes the connection on what it does not understand.
    pub fn queue_raw(&mut self, format: Format, message: &[u8]) {
        self.put(OpCode::Data(format.opcode()), message);
    }

    /// Gathers the answer to a [`super::Incoming::Ping`].
    pub fn queue_pong(&mut self, payload: &[u8]) {
        self.put(OpCode::Control(Control::Pong), payload);
    }

    /// Gathers a normal goodbye (code 1000). Nothing may follow it.
    pub fn queue_close(&mut self) {
        self.put(OpCode::Control(Control::Close), &1000_u16.to_be_bytes());
    }

    /// Bytes that wait for [`Writer::flush`].
    pub fn queued_bytes(&self) -> usize {
        self.out.len()
    }

    /// Writes what was gathered. Cancel safe: the next call writes the rest.
    ///
    /// # Errors
    /// [`WireError::Io`] if the socket fails.
    pub async fn flush(&mut self) -> Result<(), WireError> {
        self.socket.write_all_buf(&mut self.out).await?;
        self.socket.flush().await?;
        Ok(())
    }

    /// Closes this direction of the socket, after [`Writer::queue_close`] and a flush.
    ///
    /// # Errors
    /// [`WireError::Io`] if the socket fails.
    pub async fn shut_down(&mut self) -> Result<(), WireError> {
        Ok(self.socket.shutdown().await?)
    }

    fn put(&mut self, opcode: OpCode, payload: &[u8]) {
        frame::put(&mut self.out, opcode, payload.len(), |out| {
            out.put_slice(payload);
        });
    }
}
