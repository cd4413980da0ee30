//! A WebSocket client that speaks frames.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use parlance_proto::client::v1::{
    ClientFrame, Content, LoginRequest, SendRequest, SendResponse, ServerFrame, client_frame,
    content, send_request, server_frame,
};
use parlance_proto::common::v1::ErrorCode;
use parlance_testkit::token::Signer;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::world::SECRET;

/// The answer to a message that was taken.
pub fn sent(body: server_frame::Body) -> SendResponse {
    match body {
        server_frame::Body::Send(response) => response,
        other => panic!("{other:?}"),
    }
}

/// Why it was refused.
pub fn code(body: &server_frame::Body) -> ErrorCode {
    match body {
        server_frame::Body::Error(error) => error.code(),
        other => panic!("{other:?}"),
    }
}

pub struct Client<S = MaybeTlsStream<TcpStream>> {
    pub socket: WebSocketStream<S>,
    last_id: u64,
}

/// What the gateway said next.
#[derive(Debug)]
pub enum Next {
    Frame(server_frame::Body),
    Closed(u16),
}

pub fn token(user: &str) -> String {
    Signer::new("demo", SECRET).token(user)
}

pub fn send_to(to: &str, id: &str, text: &str) -> client_frame::Body {
    client_frame::Body::Send(SendRequest {
        target: Some(send_request::Target::ToUser(to.into())),
        client_message_id: id.into(),
        content: Some(Content {
            kind: Some(content::Kind::Text(text.into())),
        }),
        ..SendRequest::default()
    })
}

impl Client {
    pub async fn connect(address: SocketAddr, protocol: &'static str) -> Self {
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol.parse().unwrap());
        let (socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
        Self { socket, last_id: 0 }
    }

    pub async fn login(address: SocketAddr, user: &str) -> Self {
        let mut client = Self::connect(address, "parlance.v1").await;
        client.log_in(user).await;
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A WebSocket over a stream that is there already.
    pub async fn over(stream: S, url: &str) -> Self {
        let mut request = url.into_client_request().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", "parlance.v1".parse().unwrap());
        let (socket, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        Self { socket, last_id: 0 }
    }

    pub async fn log_in(&mut self, user: &str) {
        match self.try_log_in(&token(user)).await {
            server_frame::Body::Login(response) => assert_eq!(response.user_id, user),
            other => panic!("{other:?}"),
        }
    }

    pub async fn try_log_in(&mut self, token: &str) -> server_frame::Body {
        let login = LoginRequest {
            token: token.to_owned(),
            ..LoginRequest::default()
        };
        self.ask(client_frame::Body::Login(login)).await
    }

    /// Sends a request without waiting for its answer.
    pub async fn start(&mut self, body: client_frame::Body) -> u64 {
        self.last_id += 1;
        let frame = ClientFrame {
            request_id: self.last_id,
            body: Some(body),
        };
        self.socket
            .send(Message::binary(frame.encode_to_vec()))
            .await
            .unwrap();
        self.last_id
    }

    /// Sends a request and returns its answer; pushes before it are dropped.
    pub async fn ask(&mut self, body: client_frame::Body) -> server_frame::Body {
        let id = self.start(body).await;
        loop {
            let frame = self.frame().await;
            if frame.request_id == id {
                return frame.body.unwrap();
            }
        }
    }

    pub async fn frame(&mut self) -> ServerFrame {
        match self.message().await {
            Some(Message::Binary(bytes)) => ServerFrame::decode(bytes).unwrap(),
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("not a frame: {other:?}"),
        }
    }

    pub async fn next(&mut self) -> Next {
        match self.message().await {
            Some(Message::Binary(bytes)) => {
                Next::Frame(ServerFrame::decode(bytes).unwrap().body.unwrap())
            }
            Some(Message::Text(text)) => Next::Frame(
                serde_json::from_str::<ServerFrame>(&text)
                    .unwrap()
                    .body
                    .unwrap(),
            ),
            Some(Message::Close(Some(frame))) => Next::Closed(frame.code.into()),
            other => panic!("neither frame nor close: {other:?}"),
        }
    }

    async fn message(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(20), self.socket.next()).await;
            match next.expect("the gateway says something in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(error)) => panic!("{error}"),
                None => return None,
            }
        }
    }
}
