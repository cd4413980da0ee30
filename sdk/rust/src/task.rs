//! What runs inside a connection's task: one half reads the socket, the other writes it.

use std::time::Duration;

use bytes::Bytes;
use parlance_proto::client::v1::{ClientFrame, PingRequest, ServerFrame, client_frame};
use tokio::sync::mpsc;

use crate::client::Shared;
use crate::push::{Push, push_of};
use crate::wire::{Closed, Incoming, Reader, WireError, Writer};

/// Frames taken from the queue for one write at most.
const WRITE_BATCH_MAX: usize = 64;
/// How long the gateway gets to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the read half gets to find the gateway's close frame after a write has failed.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(50);
/// Stands for "never" where no keepalive is wanted.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);
/// No request has this id, so that the answer to a keepalive is dropped.
const KEEPALIVE_ID: u64 = u64::MAX;

/// What waits to be written.
pub(crate) enum Outgoing {
    Frame(Box<ClientFrame>),
    Pong(Bytes),
    Close,
}

/// Hands answers and pushes out until the connection ends.
pub(crate) async fn read(
    mut reader: Reader,
    shared: &Shared,
    pushes: mpsc::Sender<Push>,
    queue: mpsc::WeakSender<Outgoing>,
    keepalive: Option<Duration>,
) -> Closed {
    // Pings go out and are answered meanwhile.
    let silence_max = keepalive.unwrap_or(FAR_AWAY) * 2;
    loop {
        let Ok(next) = tokio::time::timeout(silence_max, reader.next()).await else {
            return Closed::cut(format!("nothing was heard for {silence_max:?}"));
        };
        let frame = match next {
            Ok(Incoming::Frame(bytes)) => reader.format().decode(bytes),
            Ok(Incoming::Ping(payload)) => {
                if let Some(queue) = queue.upgrade() {
                    // A full queue is sign of life enough.
                    let _ = queue.try_send(Outgoing::Pong(payload));
                }
                continue;
            }
            Ok(Incoming::Close(closed)) => {
                drop(pushes);
                shared.end(closed.clone());
                take_leave(reader, &queue).await;
                return closed;
            }
            Err(WireError::Ended) => return Closed::cut(""),
            Err(e) => Err(e),
        };
        match frame {
            Ok(ServerFrame {
                request_id,
                body: Some(body),
            }) if request_id > 0 => shared.answer(request_id, body),
            Ok(ServerFrame { body, .. }) => {
                if let Some(push) = body.and_then(push_of) {
                    // An error means that nobody wants pushes.
                    let _ = pushes.send(push).await;
                }
            }
            Err(e) => return Closed::cut(e.to_string()),
        }
    }
}

/// Answers the gateway's close frame, and lets the gateway hang up first.
async fn take_leave(mut reader: Reader, queue: &mpsc::WeakSender<Outgoing>) {
    if let Some(queue) = queue.upgrade() {
        let _ = queue.try_send(Outgoing::Close);
    }
    let hung_up = async { while reader.fill().await.is_ok() {} };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, hung_up).await;
}

/// Writes what is queued until the last handle is gone, and pings when nothing is.
pub(crate) async fn write(
    mut writer: Writer,
    mut queued: mpsc::Receiver<Outgoing>,
    keepalive: Option<Duration>,
) -> Closed {
    let mut batch = Vec::new();
    let quiet_max = keepalive.unwrap_or(FAR_AWAY);
    loop {
        match tokio::time::timeout(quiet_max, queued.recv_many(&mut batch, WRITE_BATCH_MAX)).await {
            // The last handle is gone: the read half sees the gateway's answer, or the time is up.
            Ok(0) => return say_goodbye(writer).await,
            Ok(_) => {}
            Err(_) => batch.push(Outgoing::Frame(Box::new(ClientFrame {
                request_id: KEEPALIVE_ID,
                body: Some(client_frame::Body::Ping(PingRequest {})),
            }))),
        }
        for outgoing in batch.drain(..) {
            match outgoing {
                Outgoing::Frame(frame) => {
                    if let Err(e) = writer.queue(&frame) {
                        return Closed::cut(e.to_string());
                    }
                }
                Outgoing::Pong(payload) => writer.queue_pong(&payload),
                Outgoing::Close => writer.queue_close(),
            }
        }
        if let Err(e) = writer.flush().await {
            // A gateway that closes may reset the socket under our write: its close frame, if it came, says more.
            tokio::time::sleep(LAST_WORDS_TIMEOUT).await;
            return Closed::cut(e.to_string());
        }
    }
}

async fn say_goodbye(mut writer: Writer) -> Closed {
    writer.queue_close();
    if writer.flush().await.is_ok() {
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    }
    Closed {
        code: Some(1000),
        reason: "closed by this client".to_owned(),
    }
}
