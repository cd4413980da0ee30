//! What runs inside a connection's task: one half reads the socket, the other writes it.

use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use parlance_proto::client::v1::{ClientFrame, PingRequest, ServerFrame, client_frame};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::connection::Shared;
use crate::client::push::{Push, push_of};
use crate::client::socket::Socket;
use crate::client::{Closed, WireFormat};

/// Frames taken from the queue for one write at most.
const WRITE_BATCH_MAX: usize = 64;
/// How long the gateway gets to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Hands answers and pushes out until the connection ends.
pub(super) async fn read(
    mut stream: SplitStream<WebSocketStream<Socket>>,
    format: WireFormat,
    shared: &Shared,
    pushes: mpsc::Sender<Push>,
) -> Closed {
    let mut close = None;
    loop {
        let message = match stream.next().await {
            Some(Ok(Message::Close(frame))) => {
                close = frame.map(|f| Closed {
                    code: Some(f.code.into()),
                    reason: f.reason.to_string(),
                });
                continue;
            }
            Some(Ok(message)) => message,
            Some(Err(e)) => return close.unwrap_or_else(|| Closed::cut(e.to_string())),
            None => return close.unwrap_or_else(|| Closed::cut("")),
        };
        match format.decode(message) {
            None => {}
            Some(Err(reason)) => {
                return Closed::cut(format!("the gateway broke the protocol: {reason}"));
            }
            Some(Ok(ServerFrame {
                request_id,
                body: Some(body),
            })) if request_id > 0 => shared.answer(request_id, body),
            Some(Ok(ServerFrame { body, .. })) => {
                if let Some(push) = body.and_then(push_of) {
                    // An error means that nobody wants pushes.
                    let _ = pushes.send(push).await;
                }
            }
        }
    }
}

/// Writes what is queued until the last handle is gone, and pings when nothing is.
pub(super) async fn write(
    mut sink: SplitSink<WebSocketStream<Socket>, Message>,
    format: WireFormat,
    mut queued: mpsc::Receiver<ClientFrame>,
    keepalive: Option<Duration>,
) -> Closed {
    let mut batch = Vec::new();
    // Long enough never to matter where no keepalive is wanted.
    let quiet_max = keepalive.unwrap_or(Duration::from_secs(365 * 24 * 3600));
    loop {
        match tokio::time::timeout(quiet_max, queued.recv_many(&mut batch, WRITE_BATCH_MAX)).await {
            Ok(0) => {
                // The last handle is gone: the read side sees the gateway's answer, or the time is up.
                let _ = sink.close().await;
                tokio::time::sleep(CLOSE_TIMEOUT).await;
                return Closed {
                    code: Some(1000),
                    reason: "closed by this client".to_owned(),
                };
            }
            Ok(_) => {}
            // No request has this id, so that its answer is let go.
            Err(_) => batch.push(ClientFrame {
                request_id: u64::MAX,
                body: Some(client_frame::Body::Ping(PingRequest {})),
            }),
        }
        for frame in batch.drain(..) {
            let message = match format.encode(&frame) {
                Ok(message) => message,
                Err(e) => return Closed::cut(format!("a frame cannot be written: {e}")),
            };
            if let Err(e) = sink.feed(message).await {
                return write_failed(e).await;
            }
        }
        if let Err(e) = sink.flush().await {
            return write_failed(e).await;
        }
    }
}

/// A gateway that closes may reset the socket under our write: its close frame, if it came, says more than the reset.
async fn write_failed(error: tokio_tungstenite::tungstenite::Error) -> Closed {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Closed::cut(error.to_string())
}
