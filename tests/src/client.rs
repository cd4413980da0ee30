//! A plain protocol client, not the SDK: one connection, frames out, frames in. It retries nothing and hides nothing.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{SinkExt, StreamExt};
use parlance_proto::client::v1 as proto;
use parlance_proto::common::v1::Error as ProtocolError;
use prost::Message as _;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// The subprotocol of binary protobuf frames.
pub const BINARY: &str = "parlance.v1";
/// The subprotocol of the same frames as protobuf JSON.
pub const JSON: &str = "parlance.v1.json";

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
    Closed(Option<u16>, String),
    /// The connection broke, or something came that is no frame.
    Broken(String),
    /// Nothing came in time.
    TimedOut,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Refused(error) => write!(f, "refused: {error}"),
            CallError::Closed(code, reason) => write!(f, "closed: {code:?} {reason}"),
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

    /// The close code.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            CallError::Closed(code, _) => *code,
            _ => None,
        }
    }
}

impl From<WsError> for CallError {
    fn from(error: WsError) -> Self {
        match error {
            WsError::ConnectionClosed | WsError::AlreadyClosed => {
                CallError::Closed(None, String::new())
            }
            error => CallError::Broken(error.to_string()),
        }
    }
}

/// One WebSocket to one gateway.
pub struct Connection {
    socket: WebSocketStream<TcpStream>,
    json: bool,
    last_request_id: u64,
    /// What came while an answer was awaited.
    waiting: VecDeque<proto::ServerFrame>,
}

impl Connection {
    /// Connects with binary frames.
    pub async fn open(gateway: &str) -> Result<Self> {
        Self::open_with(gateway, Some(BINARY)).await
    }

    /// Connects and offers a subprotocol, or none.
    pub async fn open_with(gateway: &str, subprotocol: Option<&'static str>) -> Result<Self> {
        let open = async {
            let stream = TcpStream::connect(gateway)
                .await
                .with_context(|| format!("connect to {gateway}"))?;
            stream.set_nodelay(true)?;
            let mut request = format!("ws://{gateway}/ws").into_client_request()?;
            if let Some(name) = subprotocol {
                request
                    .headers_mut()
                    .insert("sec-websocket-protocol", HeaderValue::from_static(name));
            }
            let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
            anyhow::Ok(socket)
        };
        let socket = timeout(OPEN_TIMEOUT, open)
            .await
            .with_context(|| format!("{gateway} does not answer"))??;
        Ok(Self {
            socket,
            json: subprotocol == Some(JSON),
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

    /// Logs in.
    pub async fn login(&mut self, token: &str) -> Result<proto::LoginResponse, CallError> {
        match self.call(Ask::Login(login_request(token))).await? {
            Answer::Login(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a text to a user.
    pub async fn send(
        &mut self,
        to: &str,
        id: &str,
        text: &str,
    ) -> Result<proto::SendResponse, CallError> {
        match self.call(Ask::Send(send_request(to, id, text))).await? {
            Answer::Send(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads a range of a conversation.
    pub async fn history(
        &mut self,
        request: proto::HistoryRequest,
    ) -> Result<proto::HistoryResponse, CallError> {
        match self.call(Ask::History(request)).await? {
            Answer::History(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads one page of the conversation list.
    pub async fn conversations(
        &mut self,
        after: &str,
    ) -> Result<proto::ConversationsResponse, CallError> {
        match self
            .call(Ask::Conversations(proto::ConversationsRequest {
                after: after.to_owned(),
                limit: 0,
            }))
            .await?
        {
            Answer::Conversations(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// Moves the read cursor.
    pub async fn mark_read(
        &mut self,
        conversation: &str,
        seq: u64,
    ) -> Result<proto::MarkReadResponse, CallError> {
        let target = proto::mark_read_request::Target::ConversationId(conversation.to_owned());
        match self
            .call(Ask::MarkRead(proto::MarkReadRequest {
                target: Some(target),
                seq,
            }))
            .await?
        {
            Answer::MarkRead(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks whether anybody is there.
    pub async fn ping(&mut self) -> Result<(), CallError> {
        match self.call(Ask::Ping(proto::PingRequest {})).await? {
            Answer::Ping(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// One request and its answer; pushes that come meanwhile wait for [`Connection::next`].
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
        let frame = proto::ClientFrame {
            request_id: self.last_request_id,
            body: Some(body),
        };
        let message = if self.json {
            let text = serde_json::to_string(&frame)
                .map_err(|error| CallError::Broken(error.to_string()))?;
            Message::text(text)
        } else {
            Message::binary(frame.encode_to_vec())
        };
        self.write(message).await?;
        Ok(self.last_request_id)
    }

    /// The next frame, whatever it is.
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

    /// Sends any WebSocket message.
    pub async fn write(&mut self, message: Message) -> Result<(), CallError> {
        timeout(WRITE_TIMEOUT, self.socket.send(message))
            .await
            .map_err(|_| CallError::TimedOut)??;
        Ok(())
    }

    /// Says goodbye; errors do not matter any more.
    pub async fn close(mut self) {
        let _ = timeout(WRITE_TIMEOUT, self.socket.close(None)).await;
    }

    async fn receive(&mut self) -> Result<proto::ServerFrame, CallError> {
        loop {
            let Some(message) = self.socket.next().await else {
                return Err(CallError::Closed(None, String::new()));
            };
            let decoded = match message? {
                Message::Binary(bytes) => {
                    proto::ServerFrame::decode(bytes).map_err(|error| error.to_string())
                }
                Message::Text(text) => {
                    serde_json::from_str(&text).map_err(|error| error.to_string())
                }
                Message::Close(frame) => return Err(closed(frame)),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            return decoded.map_err(CallError::Broken);
        }
    }
}

fn closed(frame: Option<CloseFrame>) -> CallError {
    match frame {
        Some(frame) => CallError::Closed(Some(frame.code.into()), frame.reason.to_string()),
        None => CallError::Closed(None, String::new()),
    }
}

fn unexpected(answer: &Answer) -> CallError {
    CallError::Broken(format!("an answer of another kind: {answer:?}"))
}

/// A login as these tests do it.
pub fn login_request(token: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        token: token.to_owned(),
        platform: "test".into(),
        ..Default::default()
    }
}

/// A text to a user.
pub fn send_request(to: &str, id: &str, text: &str) -> proto::SendRequest {
    proto::SendRequest {
        target: Some(proto::send_request::Target::ToUser(to.to_owned())),
        client_message_id: id.to_owned(),
        content: Some(text_content(text)),
    }
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
    }
}
