//! A plain protocol client, not the SDK: one connection, frames out, frames in. It retries nothing and hides nothing.
//!
//! Only the socket and the codec are the client crate's: what was sent, answered and received is told by this code, so
//! that the checker does not depend on how the crate matches answers.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result};
use parlance_client::wire::{Endpoint, Incoming, Reader, WireError, Writer};
use parlance_client::{Closed, Format, LoginOptions, Request};
use parlance_proto::client::v1 as proto;
use parlance_proto::common::v1::Error as ProtocolError;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;
use tokio::time::{Instant, timeout, timeout_at};

/// Longer than a gateway's own deadline for a request (10 s).
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no answer of the wanted kind.
#[derive(Debug)]
pub enum CallError {
    /// The answer is a typed error.
    Refused(ProtocolError),
    /// The gateway closed the connection; without a code if it did not say why.
    Closed(Closed),
    /// The connection broke, or something came that is not a frame.
    Broken(String),
    /// Nothing came in time.
    TimedOut,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Refused(error) => write!(f, "refused: {error}"),
            CallError::Closed(closed) => write!(f, "closed: {closed}"),
            CallError::Broken(reason) => write!(f, "broken: {reason}"),
            CallError::TimedOut => write!(f, "no answer in time"),
        }
    }
}

impl std::error::Error for CallError {}

impl CallError {
    /// The name of the typed error, as in `token_expired`.
    pub fn code(&self) -> Option<String> {
        match self {
            CallError::Refused(error) => Some(error.code().name()),
            _ => None,
        }
    }

    pub fn close_code(&self) -> Option<u16> {
        match self {
            CallError::Closed(closed) => closed.code,
            _ => None,
        }
    }
}

impl From<WireError> for CallError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Ended => CallError::Closed(Closed::default()),
            error => CallError::Broken(error.to_string()),
        }
    }
}

/// One WebSocket to one gateway.
pub struct Connection {
    reader: Reader,
    writer: Writer,
    last_request_id: u64,
    /// What came while an answer was awaited.
    waiting: VecDeque<proto::ServerFrame>,
}

impl Connection {
    /// Connects with binary frames.
    pub async fn open(gateway: &str) -> Result<Self> {
        Self::open_with(gateway, Format::Protobuf).await
    }

    pub async fn open_with(gateway: &str, format: Format) -> Result<Self> {
        let open = async {
            let endpoint = Endpoint::resolve(&format!("ws://{gateway}/ws"), None).await?;
            endpoint.open(format, None).await
        };
        let (reader, writer) = timeout(OPEN_TIMEOUT, open)
            .await
            .with_context(|| format!("{gateway} does not answer"))??;
        Ok(Self {
            reader,
            writer,
            last_request_id: 0,
            waiting: VecDeque::new(),
        })
    }

    /// Connects and logs in.
    pub async fn logged_in(gateway: &str, token: &str) -> Result<Self> {
        let mut connection = Self::open(gateway).await?;
        connection.login(token).await?;
        Ok(connection)
    }

    pub async fn login(&mut self, token: &str) -> Result<proto::LoginResponse, CallError> {
        self.request(login_request(token)).await
    }

    /// Sends a text to a user.
    pub async fn send(
        &mut self,
        to: &str,
        id: &str,
        text: &str,
    ) -> Result<proto::SendResponse, CallError> {
        self.request(parlance_client::text_to(to, id, text)).await
    }

    /// Reads a range of a conversation.
    pub async fn history(
        &mut self,
        request: proto::HistoryRequest,
    ) -> Result<proto::HistoryResponse, CallError> {
        self.request(request).await
    }

    /// Reads one page of the conversation list.
    pub async fn conversations(
        &mut self,
        after: &str,
    ) -> Result<proto::ConversationsResponse, CallError> {
        let after = after.to_owned();
        self.request(conversations_after(after)).await
    }

    /// Moves the read cursor.
    pub async fn mark_read(
        &mut self,
        conversation: &str,
        seq: u64,
    ) -> Result<proto::MarkReadResponse, CallError> {
        let target = proto::mark_read_request::Target::ConversationId(conversation.to_owned());
        let target = Some(target);
        self.request(proto::MarkReadRequest { target, seq }).await
    }

    /// Asks whether anybody is there.
    pub async fn ping(&mut self) -> Result<(), CallError> {
        self.request(proto::PingRequest {}).await.map(drop)
    }

    /// One request and its answer; pushes that come meanwhile wait for [`Connection::next`].
    pub async fn request<R: Request>(&mut self, request: R) -> Result<R::Answer, CallError> {
        let answer = self.call(request.into_body()).await?;
        R::answer(answer)
            .ok_or_else(|| CallError::Broken(format!("another answer than that to {}", R::NAME)))
    }

    /// As [`Connection::request`], for a request of any kind.
    pub async fn call(&mut self, body: Ask) -> Result<Answer, CallError> {
        let request_id = self.submit(body).await?;
        let deadline = Instant::now() + CALL_TIMEOUT;
        loop {
            let frame = timeout_at(deadline, self.receive())
                .await
                .map_err(|_| CallError::TimedOut)??;
            match frame.body {
                Some(Answer::Error(error)) if frame.request_id == request_id => {
                    return Err(CallError::Refused(error));
                }
                Some(body) if frame.request_id == request_id => return Ok(body),
                _ => self.waiting.push_back(frame),
            }
        }
    }

    /// Sends a request and does not wait; the answer will carry the returned id.
    pub async fn submit(&mut self, body: Ask) -> Result<u64, CallError> {
        self.last_request_id += 1;
        self.writer.queue(&proto::ClientFrame {
            request_id: self.last_request_id,
            body: Some(body),
        })?;
        self.flush().await?;
        Ok(self.last_request_id)
    }

    /// The next frame, whatever it is. Cancel safe.
    pub async fn next(&mut self) -> Result<proto::ServerFrame, CallError> {
        match self.waiting.pop_front() {
            Some(frame) => Ok(frame),
            None => self.receive().await,
        }
    }

    /// The next frame within a time.
    pub async fn next_within(&mut self, time: Duration) -> Result<proto::ServerFrame, CallError> {
        timeout(time, self.next())
            .await
            .map_err(|_| CallError::TimedOut)?
    }

    /// Reads on until the gateway closes, and says how it did.
    pub async fn closed_within(&mut self, time: Duration) -> CallError {
        let read_on = async {
            loop {
                if let Err(error) = self.next().await {
                    return error;
                }
            }
        };
        timeout(time, read_on).await.unwrap_or(CallError::TimedOut)
    }

    /// Sends any bytes, in the kind of WebSocket message that `format` uses.
    pub async fn write(&mut self, format: Format, message: &[u8]) -> Result<(), CallError> {
        self.writer.queue_raw(format, message);
        self.flush().await
    }

    /// Sends a pong that nobody asked for.
    pub async fn pong(&mut self) -> Result<(), CallError> {
        self.writer.queue_pong(b"");
        self.flush().await
    }

    /// Says goodbye; errors do not matter any more.
    pub async fn close(mut self) {
        self.writer.queue_close();
        let _ = self.flush().await;
    }

    async fn flush(&mut self) -> Result<(), CallError> {
        timeout(WRITE_TIMEOUT, self.writer.flush())
            .await
            .map_err(|_| CallError::TimedOut)??;
        Ok(())
    }

    async fn receive(&mut self) -> Result<proto::ServerFrame, CallError> {
        loop {
            match self.reader.next().await? {
                Incoming::Frame(bytes) => return Ok(self.reader.format().decode(bytes)?),
                Incoming::Close(closed) => return Err(CallError::Closed(closed)),
                Incoming::Ping(payload) => {
                    self.writer.queue_pong(&payload);
                    self.flush().await?;
                }
            }
        }
    }
}

/// A login as these tests do it.
pub fn login_request(token: &str) -> proto::LoginRequest {
    let myself = LoginOptions {
        platform: "test".into(),
        ..LoginOptions::default()
    };
    myself.request(token)
}

/// A text as a message's content.
pub fn text_content(text: &str) -> proto::Content {
    proto::Content {
        kind: Some(proto::content::Kind::Text(text.to_owned())),
    }
}

/// Events from `start_seq` upwards.
pub fn history_forward(conversation: &str, start_seq: u64) -> proto::HistoryRequest {
    proto::HistoryRequest {
        target: Some(proto::history_request::Target::ConversationId(
            conversation.to_owned(),
        )),
        start_seq,
        limit: parlance_proto::limits::HISTORY_EVENTS_MAX,
        direction: proto::Direction::Forward.into(),
        max_bytes: 0,
    }
}

/// The page of conversations behind this id.
pub fn conversations_after(after: String) -> proto::ConversationsRequest {
    proto::ConversationsRequest {
        after,
        ..proto::ConversationsRequest::default()
    }
}
