//! One WebSocket, reader and writer in one task with little memory. Frames are read one by one; what is queued is
//! written together. While a write is stuck nothing is read: a client that does not listen is not listened to.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use parlance_proto::client::v1::{
    ClientFrame, PingResponse, ServerFrame, client_frame, server_frame,
};
use parlance_proto::common::v1::{Error, ErrorCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::accept::Upgraded;
use super::close::Close;
use super::codec::{Format, decode_client_frame, encode_server_frame};
use super::queue::Outbound;
use super::stream::ClientStream;
use crate::context::{Context, now_ms};
use crate::metrics::CLOSED;
use crate::request;
use crate::session::{Session, login};

/// Allocated for every connection: small, larger frames make it grow.
const READ_BUFFER_BYTES: usize = 2 * 1024;
/// Frames are gathered up to this size before they are written.
const WRITE_BATCH_BYTES: usize = 8 * 1024;
/// The socket library's own bound; ours is the queue's.
const WRITE_BUFFER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a close may take, and unanswered requests may hold it up.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes read and dropped while closing, so that the client gets to read why.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

type Socket = WebSocketStream<ClientStream>;

/// Serves one WebSocket until it ends.
pub async fn run(context: Arc<Context>, upgraded: Upgraded) {
    let limits = &context.config.limits;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BATCH_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(limits.frame_bytes_max))
        .max_frame_size(Some(limits.frame_bytes_max));
    let outbound = Outbound::new(limits.outbound_bytes_max, limits.outbound_frames_max);
    let session = Arc::new(Session::new(upgraded.format, outbound));
    let mut socket = WebSocketStream::from_partially_read(
        upgraded.stream,
        upgraded.read,
        Role::Server,
        Some(config),
    )
    .await;
    context.registry.connected(&session);
    if context.draining() {
        session.outbound.close(Close::GoingAway);
    }
    let reason = serve(&context, &session, &mut socket).await;
    session.outbound.close(Close::Gone);
    login::logout(&context, &session);
    context.registry.disconnected(&session);
    metrics::counter!(CLOSED, "reason" => reason.name()).increment(1);
    tracing::debug!(session = %session.id, reason = reason.name(), "connection ended");
    if reason != Close::Gone {
        Box::pin(close(&mut socket, reason)).await;
    }
}

/// Carries frames both ways; returns why the connection is to end.
async fn serve(context: &Arc<Context>, session: &Arc<Session>, socket: &mut Socket) -> Close {
    let limits = &context.config.limits;
    let opened = Instant::now();
    let mut heard = opened;
    let mut pinged = false;
    loop {
        if let Some(reason) = session.outbound.closed() {
            return Box::pin(finish(session, socket, limits.write_timeout(), reason)).await;
        }
        let idle = limits.idle_timeout();
        let mut wake = heard + if pinged { idle } else { idle / 2 };
        if session.user().is_none() {
            wake = wake.min(opened + limits.login_timeout());
        }
        tokio::select! {
            () = session.outbound.changed() => {
                if let Err(reason) = write_queued(session, socket, limits.write_timeout()).await {
                    return reason;
                }
            }
            message = socket.next() => {
                (heard, pinged) = (Instant::now(), false);
                match message {
                    Some(Ok(message)) => take(context, session, message).await,
                    Some(Err(error)) => refuse(session, &error),
                    None => return Close::Gone,
                }
            }
            () = sleep_until(wake) => {
                let now = Instant::now();
                if session.user().is_none() && now >= opened + limits.login_timeout() {
                    session.answer(0, error(ErrorCode::NotLoggedIn, "no login in time"));
                    session.outbound.close(Close::LoginTimeout);
                } else if now >= heard + idle {
                    session.outbound.close(Close::Idle);
                } else if !pinged {
                    pinged = true;
                    let ping = async { socket.send(Message::Ping(Default::default())).await };
                    if let Err(reason) = write(session, limits.write_timeout(), ping).await {
                        return reason;
                    }
                }
            }
        }
    }
}

/// One WebSocket message of the client.
async fn take(context: &Arc<Context>, session: &Arc<Session>, message: Message) {
    let decoded = match (&message, session.format) {
        (Message::Binary(bytes), Format::Binary) => decode_client_frame(Format::Binary, bytes),
        (Message::Text(text), Format::Json) => decode_client_frame(Format::Json, text.as_bytes()),
        (Message::Binary(_) | Message::Text(_), _) => {
            return malformed(
                session,
                "the subprotocol parlance.v1 has binary messages, parlance.v1.json text",
            );
        }
        (Message::Close(_), _) => return session.outbound.close(Close::Gone),
        _ => return,
    };
    match decoded {
        Ok(frame) => dispatch(context, session, frame).await,
        Err(error) => malformed(session, &error.to_string()),
    }
}

async fn dispatch(context: &Arc<Context>, session: &Arc<Session>, frame: ClientFrame) {
    let id = frame.request_id;
    let refuse = |error: Error| {
        request::count("unknown", Some(&error));
        session.answer(id, server_frame::Body::Error(error));
    };
    if id == 0 {
        return refuse(Error::invalid(
            "request_id",
            "a request id above 0 is needed",
        ));
    }
    match frame.body {
        None => refuse(Error::new(
            ErrorCode::Unsupported,
            "the frame has no request that is known here",
        )),
        Some(client_frame::Body::Login(login)) => {
            Box::pin(login::run(context, session, id, login)).await
        }
        Some(client_frame::Body::Ping(_)) => {
            request::count("ping", None);
            session.answer(
                id,
                server_frame::Body::Ping(PingResponse {
                    server_time_ms: now_ms(),
                }),
            );
        }
        Some(_) if session.user().is_none() => {
            refuse(Error::new(ErrorCode::NotLoggedIn, "log in first"))
        }
        Some(body) => {
            let max = context.config.limits.requests_in_flight_max;
            if session.begin_request(max) {
                request::start(context, session, id, body);
            } else {
                refuse(Error::new(
                    ErrorCode::Overloaded,
                    format!("at most {max} requests may be unanswered"),
                ));
            }
        }
    }
}

/// What the socket library would not read.
fn refuse(session: &Session, failure: &WsError) {
    match failure {
        WsError::Capacity(_) => {
            session.answer(
                0,
                error(
                    ErrorCode::FrameTooLarge,
                    "the frame is above limits.frame_bytes_max",
                ),
            );
            session.outbound.close(Close::FrameTooLarge);
        }
        WsError::Protocol(e)
            if !matches!(
                e,
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
            ) =>
        {
            malformed(session, &e.to_string());
        }
        WsError::Utf8(_) => malformed(session, "the text is not UTF-8"),
        _ => session.outbound.close(Close::Gone),
    }
}

fn malformed(session: &Session, why: &str) {
    session.answer(0, error(ErrorCode::MalformedFrame, why));
    session.outbound.close(Close::Malformed);
}

fn error(code: ErrorCode, message: &str) -> server_frame::Body {
    server_frame::Body::Error(Error::new(code, message))
}

/// Writes all that is queued: gathered, with one flush at the end.
async fn write_queued(
    session: &Session,
    socket: &mut Socket,
    limit: Duration,
) -> Result<(), Close> {
    while let Some(frame) = session.outbound.pop() {
        write(session, limit, socket.feed(frame)).await?;
    }
    write(session, limit, socket.flush()).await
}

/// A write that ends in time, and at once when the queue overflows.
async fn write(
    session: &Session,
    limit: Duration,
    write: impl Future<Output = Result<(), WsError>>,
) -> Result<(), Close> {
    let mut write = pin!(write);
    let deadline = Instant::now() + limit;
    loop {
        tokio::select! {
            biased;
            result = &mut write => return result.map_err(|_| Close::Gone),
            () = sleep_until(deadline) => return Err(Close::TooSlow),
            () = session.outbound.changed() => {
                if session.outbound.closed() == Some(Close::TooSlow) {
                    return Err(Close::TooSlow);
                }
            }
        }
    }
}

/// What is still owed before a close: answers to requests under way, then all that is queued.
async fn finish(session: &Session, socket: &mut Socket, limit: Duration, reason: Close) -> Close {
    if matches!(reason, Close::Gone | Close::TooSlow) {
        return reason;
    }
    let limit = limit.min(CLOSE_TIMEOUT);
    match write_queued(session, socket, limit).await {
        Ok(()) => reason,
        Err(other) => other,
    }
}

/// Sends the close frame and reads on for a moment: closing with unread input would drop what we sent.
async fn close(socket: &mut Socket, reason: Close) {
    let frame = CloseFrame {
        code: reason.code().into(),
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

/// Tells a session that this gateway is about to close.
pub fn notify_reconnect(session: &Session, within_ms: u32) {
    let body =
        server_frame::Body::Reconnect(parlance_proto::client::v1::ReconnectNotice { within_ms });
    let frame = ServerFrame {
        request_id: 0,
        body: Some(body),
    };
    session
        .outbound
        .push(encode_server_frame(session.format, &frame));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F>(_: fn(A, B) -> F) -> usize {
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
