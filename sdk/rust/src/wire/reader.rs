//! The half of a connection that reads.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::ready;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncRead, ReadBuf, ReadHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::{Closed, FRAME_BYTES_MAX, Format, WireError, frame};

pub(super) type ReadSocket = Either<OwnedReadHalf, ReadHalf<TlsStream<TcpStream>>>;

/// Bytes of one read at most. On the stack: a connection that waits has no buffer.
const READ_BYTES: usize = 8 * 1024;

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A frame of the protocol, for [`Format::decode`].
    Frame(Bytes),
    /// The gateway wants these bytes back: see [`super::Writer::queue_pong`].
    Ping(Bytes),
    /// The gateway says goodbye. Nothing follows.
    Close(Closed),
}

/// Reads frames.
pub struct Reader {
    socket: ReadSocket,
    format: Format,
    inbox: BytesMut,
    /// What has come of a message that a proxy has cut into several frames.
    partial: Option<BytesMut>,
}

impl Reader {
    /// `inbox` is what was read past the upgrade.
    pub(super) fn new(socket: ReadSocket, format: Format, inbox: BytesMut) -> Self {
        Self {
            socket,
            format,
            inbox,
            partial: None,
        }
    }

    /// The encoding that was agreed on.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The next of what has been read already, if it is there in full. Never waits.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if what came is not a frame of the agreed encoding.
    pub fn buffered(&mut self) -> Result<Option<Incoming>, WireError> {
        while let Some((header, payload)) = frame::take(&mut self.inbox)? {
            if self.inbox.is_empty() {
                self.inbox = BytesMut::new();
            }
            if let Some(incoming) = self.incoming(&header, payload)? {
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }

    /// Reads some more. Cancel safe.
    ///
    /// # Errors
    /// [`WireError::Ended`] at the end of the socket, [`WireError::Io`] if it fails.
    pub async fn fill(&mut self) -> Result<(), WireError> {
        let (socket, inbox) = (&mut self.socket, &mut self.inbox);
        let read = std::future::poll_fn(|cx| {
            let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut buffer))?;
            inbox.extend_from_slice(buffer.filled());
            std::task::Poll::Ready(std::io::Result::Ok(buffer.filled().len()))
        });
        match read.await? {
            0 => Err(WireError::Ended),
            _ => Ok(()),
        }
    }

    /// Waits for what comes next. Cancel safe.
    ///
    /// # Errors
    /// Those of [`Reader::buffered`] and [`Reader::fill`].
    pub async fn next(&mut self) -> Result<Incoming, WireError> {
        loop {
            if let Some(incoming) = self.buffered()? {
                return Ok(incoming);
            }
            self.fill().await?;
        }
    }

    /// Whether the socket has ended or failed by now. What it reads to find out is kept for [`Reader::buffered`].
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.fill().now_or_never() {
                None => return false,
                Some(Err(_)) => return true,
                Some(Ok(())) if self.inbox.len() > FRAME_BYTES_MAX => return false,
                Some(Ok(())) => {}
            }
        }
    }

    fn incoming(
        &mut self,
        header: &FrameHeader,
        payload: Bytes,
    ) -> Result<Option<Incoming>, WireError> {
        match header.opcode {
            OpCode::Data(Data::Continue) => self.continued(header.is_final, &payload),
            OpCode::Data(data) if data != self.format.opcode() || self.partial.is_some() => Err(
                WireError::Protocol(format!("a {data} message out of place")),
            ),
            OpCode::Data(_) if header.is_final => Ok(Some(Incoming::Frame(payload))),
            OpCode::Data(_) => {
                self.partial = Some(payload.into());
                Ok(None)
            }
            OpCode::Control(Control::Ping) => Ok(Some(Incoming::Ping(payload))),
            OpCode::Control(Control::Close) => {
                Ok(Some(Incoming::Close(Closed::from_payload(&payload))))
            }
            OpCode::Control(_) => Ok(None),
        }
    }

    fn continued(&mut self, is_final: bool, more: &[u8]) -> Result<Option<Incoming>, WireError> {
        let Some(mut message) = self.partial.take() else {
            return Err(WireError::Protocol("a continuation of nothing".to_owned()));
        };
        if message.len() + more.len() > FRAME_BYTES_MAX {
            return Err(WireError::Protocol("a message without end".to_owned()));
        }
        message.extend_from_slice(more);
        if is_final {
            return Ok(Some(Incoming::Frame(message.freeze())));
        }
        self.partial = Some(message);
        Ok(None)
    }
}
