//! Writes what is queued for a socket. All that is ready goes out together: frames are gathered in a buffer of the
//! thread, so that a socket that takes them at once costs one system call and no memory.
//!
//! The WebSocket library writes control frames only; it is flushed before, so that no frame is cut in two.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink as _, SinkExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::codec::{Format, encode_push};
use crate::endpoint::ClientStream;
use crate::metrics::handles;
use crate::session::{CloseReason, Item, Outbound};

/// Frames are gathered up to this size before they are written.
const GATHER_BYTES: usize = 64 * 1024;

/// One delivery in so many is timed: a timing costs a tenth of a delivery.
const TIMED_EACH: u8 = 16;

/// How long a write may hold up a close.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A client's WebSocket.
pub type Socket = WebSocketStream<ClientStream>;

thread_local! {
    static GATHERED: RefCell<Gathered> = const { RefCell::new(Gathered::new()) };
}

/// What goes out together.
#[derive(Clone)]
struct Gathered {
    bytes: Vec<u8>,
    /// When the pushes in it came that are timed.
    arrived: Vec<Instant>,
    /// Deliveries until the next that is timed.
    untimed: u8,
}

impl Gathered {
    const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            arrived: Vec::new(),
            untimed: 0,
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.arrived.clear();
    }

    /// What is left of it when `written` bytes are out.
    fn rest(&self, written: usize) -> Self {
        Self {
            bytes: self.bytes.get(written..).unwrap_or_default().to_vec(),
            arrived: self.arrived.clone(),
            untimed: 0,
        }
    }

    /// The socket has taken all of it.
    fn is_out(&self) {
        if self.arrived.is_empty() {
            return;
        }
        let now = Instant::now();
        for arrived in &self.arrived {
            handles().delivery.record((now - *arrived).as_secs_f64());
        }
    }

    fn put(&mut self, format: Format, item: Item) {
        let frame: Bytes = match item {
            Item::Encoded(frame) => frame,
            Item::Resync(push) => encode_push(format, &push),
            Item::Push(push) => {
                if self.untimed == 0 {
                    self.arrived.push(push.arrived());
                    self.untimed = TIMED_EACH;
                }
                self.untimed -= 1;
                encode_push(format, &push)
            }
        };
        let opcode = match format {
            Format::Binary => Data::Binary,
            Format::Json => Data::Text,
        };
        let header = FrameHeader {
            is_final: true,
            opcode: OpCode::Data(opcode),
            ..FrameHeader::default()
        };
        // Into a vector there is always room.
        let _ = header.format(frame.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(&frame);
    }
}

/// Writes all that is queued. A socket that takes nothing for `limit` is given up; a slow one is waited for. Answers
/// whether there was a wait.
pub async fn write_queued(
    outbound: &Outbound,
    format: Format,
    socket: &mut Socket,
    limit: Duration,
) -> Result<bool, CloseReason> {
    let mut waited = false;
    loop {
        let step =
            std::future::poll_fn(|cx| Poll::Ready(write_at_once(outbound, format, socket, cx)));
        match step.await {
            Ok(Step::Done) => return Ok(waited),
            Ok(Step::More) => {}
            Ok(Step::Stuck(rest)) => {
                waited = true;
                Box::pin(write_rest(outbound, socket, limit, &rest)).await?;
            }
            Err(_) => return Err(CloseReason::Gone),
        }
    }
}

enum Step {
    /// Nothing is queued any more.
    Done,
    /// Something may be.
    More,
    /// The socket takes no more for now: this is still to be written.
    Stuck(Gathered),
}

fn write_at_once(
    outbound: &Outbound,
    format: Format,
    socket: &mut Socket,
    cx: &mut Context<'_>,
) -> Result<Step, WsError> {
    if Pin::new(&mut *socket).poll_flush(cx)?.is_pending() {
        return Ok(Step::Stuck(Gathered::new()));
    }
    GATHERED.with_borrow_mut(|gathered| {
        gathered.clear();
        outbound.drain(|item| {
            gathered.put(format, item);
            gathered.bytes.len() < GATHER_BYTES
        });
        let stream = socket.get_mut();
        let mut written = 0;
        handles().sent_bytes.increment(gathered.bytes.len() as u64);
        while written < gathered.bytes.len() {
            match Pin::new(&mut *stream).poll_write(cx, &gathered.bytes[written..])? {
                Poll::Ready(0) => return Err(WsError::ConnectionClosed),
                Poll::Ready(n) => written += n,
                Poll::Pending => return Ok(Step::Stuck(gathered.rest(written))),
            }
        }
        if written > 0 && Pin::new(stream).poll_flush(cx)?.is_pending() {
            return Ok(Step::Stuck(gathered.rest(written)));
        }
        gathered.is_out();
        let more = gathered.bytes.len() >= GATHER_BYTES;
        if gathered.bytes.capacity() > 2 * GATHER_BYTES {
            gathered.bytes = Vec::new(); // an answer that was larger than usual
        }
        Ok(if more { Step::More } else { Step::Done })
    })
}

async fn write_rest(
    outbound: &Outbound,
    socket: &mut Socket,
    limit: Duration,
    rest: &Gathered,
) -> Result<(), CloseReason> {
    let _counted = outbound.writing(rest.bytes.len());
    let write = async {
        step(limit, socket.flush()).await?;
        let stream = socket.get_mut();
        let mut left = &rest.bytes[..];
        while !left.is_empty() {
            match step(limit, async { Ok(stream.write(left).await?) }).await? {
                0 => return Err(CloseReason::Gone),
                taken => left = &left[taken..],
            }
        }
        step(limit, async { Ok(stream.flush().await?) }).await?;
        rest.is_out();
        Ok(())
    };
    unless_closing(outbound, write).await
}

/// One control frame, written in time.
pub async fn send_now(
    outbound: &Outbound,
    socket: &mut Socket,
    limit: Duration,
    message: Message,
) -> Result<(), CloseReason> {
    unless_closing(outbound, step(limit, socket.send(message))).await
}

/// What the socket does, if it does it in time.
async fn step<T>(
    limit: Duration,
    write: impl Future<Output = Result<T, WsError>>,
) -> Result<T, CloseReason> {
    match timeout(limit, write).await {
        Ok(written) => written.map_err(|_| CloseReason::Gone),
        Err(_) => Err(CloseReason::TooSlow),
    }
}

/// A write, and not for long once the connection is to close.
async fn unless_closing(
    outbound: &Outbound,
    write: impl Future<Output = Result<(), CloseReason>>,
) -> Result<(), CloseReason> {
    let closing = async {
        loop {
            match outbound.closed() {
                Some(reason) if reason.drops_queue() => return reason,
                Some(reason) => {
                    sleep(CLOSE_TIMEOUT).await;
                    return reason;
                }
                None => outbound.changed().await,
            }
        }
    };
    tokio::select! {
        biased;
        written = write => written,
        reason = closing => Err(reason),
    }
}
