//! One WebSocket, reader and writer in one task with little memory. Frames are read one by one; what is queued is
//! written together. While a write is stuck nothing is read: a client that does not listen is not listened to.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt as _;
use parlance_proto::client::v1::server_frame;
use parlance_proto::common::v1::{Error, ErrorCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::close::code;
use super::codec::{Format, decode_client_frame};
use super::dispatch::Client;
use super::write::{CLOSE_TIMEOUT, Socket, send_now, write_queued};
use crate::api::sessions;
use crate::bounds::Place;
use crate::endpoint::{ClientStream, Connection};
use crate::metrics::{CLOSED, handles};
use crate::session::{CloseReason, Outbound, Session};

/// Allocated for every connection: small, larger frames make it grow.
const READ_BUFFER_BYTES: usize = 2 * 1024;
/// Bytes read and dropped while closing, so that the client gets to read why.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Serves one WebSocket until it ends; `read` is what the client has sent behind its upgrade request.
pub async fn run(
    connection: Arc<Connection>,
    mut stream: ClientStream,
    read: Vec<u8>,
    format: Format,
) {
    let api = connection.shared.api.clone();
    let limits = &api.limits;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(limits.frame_bytes_max))
        .max_frame_size(Some(limits.frame_bytes_max));
    stream.limit(Some(limits.before_login_bytes_max));
    let outbound = Outbound::new(
        limits.outbound_bytes_max,
        limits.outbound_frames_max,
        &api.bounds.outbound,
    );
    let session = Arc::new(Session::new(outbound, connection.address));
    let mut socket =
        WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await;
    api.registry.connected(&session);
    if api.draining() {
        session.outbound.close(CloseReason::GoingAway);
    }
    let client = Client {
        api,
        session,
        format,
    };
    let waiting = connection.waiting.clone();
    drop(connection);
    let reason = serve(&client, &mut socket, waiting).await;
    let Client { api, session, .. } = client;
    session.outbound.close(CloseReason::Gone);
    sessions::log_out(&api, &session);
    api.registry.disconnected(&session);
    metrics::counter!(CLOSED, "reason" => reason.name()).increment(1);
    let (id, address) = (session.id, session.address);
    tracing::debug!(session = %id, %address, reason = reason.name(), "connection ended");
    if reason != CloseReason::Gone {
        Box::pin(close(&mut socket, reason)).await;
    }
}

/// Carries frames both ways; returns why the connection is to end.
async fn serve(client: &Client, socket: &mut Socket, waiting: Arc<Place>) -> CloseReason {
    let limits = &client.api.limits;
    let outbound = &client.session.outbound;
    let opened = Instant::now();
    let mut heard = opened;
    let mut pinged = false;
    let idle = limits.idle_timeout();
    let log_in_until = waiting.since + limits.login_timeout();
    // Until the login.
    let mut waiting = Some(waiting);
    // What is heard only puts off what the timer is for: it is set anew when it fires.
    let mut timer = pin!(sleep_until(log_in_until.min(opened + idle / 2)));
    loop {
        if let Some(reason) = outbound.closed() {
            return Box::pin(finish(client, socket, reason)).await;
        }
        tokio::select! {
            () = outbound.changed() => {
                // What is about to be queued goes along.
                yield_now().await;
            }
            message = next(socket, client) => {
                (heard, pinged) = (Instant::now(), false);
                match message {
                    Some(Ok(message)) => take(client, message).await,
                    Some(Err(_)) if socket.get_ref().is_exhausted() => {
                        too_large(client, "more than limits.before_login_bytes_max came before a login");
                    }
                    Some(Err(error)) => refuse(client, &error),
                    None => return CloseReason::Gone,
                }
                if waiting.is_some() && client.session.caller().is_some() {
                    waiting = None;
                    socket.get_mut().limit(None);
                }
                continue;
            }
            () = evicted(waiting.as_deref()) => {
                outbound.close(CloseReason::Overloaded);
                waiting = None;
            }
            () = &mut timer => {
                let now = Instant::now();
                let logging_in = client.session.caller().is_none();
                if logging_in && now >= log_in_until {
                    outbound.close(CloseReason::LoginTimeout);
                } else if now >= heard + idle {
                    outbound.close(CloseReason::Idle);
                } else if !pinged && now >= heard + idle / 2 {
                    pinged = true;
                    let ping = Message::Ping(Default::default());
                    let sent = send_now(outbound, socket, limits.write_timeout(), ping);
                    // Boxed: it is seldom.
                    if let Err(reason) = Box::pin(sent).await {
                        return reason;
                    }
                }
                let next = heard + if pinged { idle } else { idle / 2 };
                timer.as_mut().reset(if logging_in { next.min(log_in_until) } else { next });
            }
        }
        let written = write_queued(outbound, client.format, socket, limits.write_timeout()).await;
        match written {
            // Nothing was read meanwhile, but who takes what is written is there.
            Ok(true) => (heard, pinged) = (Instant::now(), false),
            Ok(false) => {}
            Err(reason) => return reason,
        }
    }
}

/// The next message, once the client may be read again. Cancel safe.
async fn next(socket: &mut Socket, client: &Client) -> Option<Result<Message, WsError>> {
    let caller = client.session.caller();
    if let Some(until) = caller.and_then(|caller| caller.rates.patience.rests_until()) {
        sleep_until(until).await;
    }
    socket.next().await
}

/// Resolves when a connection without a login has to give way.
async fn evicted(waiting: Option<&Place>) {
    match waiting {
        Some(place) => place.evicted().await,
        None => std::future::pending().await,
    }
}

/// One WebSocket message of the client.
async fn take(client: &Client, message: Message) {
    handles().received_bytes.increment(message.len() as u64);
    let decoded = match (&message, client.format) {
        (Message::Binary(bytes), Format::Binary) => decode_client_frame(Format::Binary, bytes),
        (Message::Text(text), Format::Json) => decode_client_frame(Format::Json, text.as_bytes()),
        (Message::Binary(_) | Message::Text(_), _) => {
            return malformed(
                client,
                "the subprotocol parlance.v1 has binary messages, parlance.v1.json text",
            );
        }
        (Message::Close(_), _) => return client.session.outbound.close(CloseReason::Gone),
        _ => return client.was_pinged(),
    };
    match decoded {
        Ok(frame) => client.take(frame, message.len()).await,
        Err(error) => malformed(client, &error.to_string()),
    }
}

/// What the socket library would not read.
fn refuse(client: &Client, failure: &WsError) {
    match failure {
        WsError::Capacity(_) => {
            too_large(client, "the frame is above limits.frame_bytes_max");
        }
        WsError::Protocol(e) if !matches!(e, ProtocolError::ResetWithoutClosingHandshake) => {
            malformed(client, &e.to_string());
        }
        WsError::Utf8(_) => malformed(client, "the text is not UTF-8"),
        _ => client.session.outbound.close(CloseReason::Gone),
    }
}

fn too_large(client: &Client, why: &str) {
    client.answer(0, error(ErrorCode::FrameTooLarge, why));
    client.session.outbound.close(CloseReason::FrameTooLarge);
}

fn malformed(client: &Client, why: &str) {
    client.answer(0, error(ErrorCode::MalformedFrame, why));
    client.session.outbound.close(CloseReason::Malformed);
}

fn error(code: ErrorCode, message: &str) -> server_frame::Body {
    server_frame::Body::Error(Error::new(code, message))
}

/// What is still owed before a close: all that is queued.
async fn finish(client: &Client, socket: &mut Socket, reason: CloseReason) -> CloseReason {
    if reason.drops_queue() {
        return reason;
    }
    let limit = client.api.limits.write_timeout().min(CLOSE_TIMEOUT);
    let outbound = &client.session.outbound;
    match write_queued(outbound, client.format, socket, limit).await {
        Ok(_) => reason,
        Err(other) => other,
    }
}

/// Sends the close frame and reads on for a moment: closing with unread input would drop what we sent.
async fn close(socket: &mut Socket, reason: CloseReason) {
    let frame = CloseFrame {
        code: code(reason).into(),
        reason: reason.name().into(),
    };
    if !matches!(
        timeout(CLOSE_TIMEOUT, socket.close(Some(frame))).await,
        Ok(Ok(()))
    ) {
        return;
    }
    let stream = socket.get_mut();
    let mut dropped = 0;
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let linger = async {
        let _ = stream.shutdown().await;
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            dropped += n;
            if dropped > LINGER_BYTES_MAX {
                break;
            }
        }
    };
    let _ = timeout(CLOSE_TIMEOUT, linger).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        let (task, session) = (size_of_future(run), size_of::<Session>());
        assert!(
            task + session + READ_BUFFER_BYTES < 4096,
            "task {task}, session {session}"
        );
    }
}
