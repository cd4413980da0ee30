//! A gateway's end of a client's WebSocket. It is built on another WebSocket library than the clients it tests.

use anyhow::{Context, Result};
use futures::{SinkExt, StreamExt};
use parlance_proto::client::v1::{ClientFrame, ServerFrame, server_frame};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

const SUBPROTOCOL: &str = "sec-websocket-protocol";

/// One client's connection.
pub struct GatewayPeer {
    socket: WebSocketStream<TcpStream>,
    json: bool,
    said_goodbye: bool,
}

impl GatewayPeer {
    /// Upgrades, and agrees to whatever subprotocol the client offers.
    pub async fn accept(stream: TcpStream) -> Result<Self> {
        let mut json = false;
        #[allow(clippy::result_large_err, reason = "the type is the library's")]
        let agree =
            |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                if let Some(offered) = request.headers().get(SUBPROTOCOL) {
                    json = offered.as_bytes().ends_with(b".json");
                    response.headers_mut().insert(SUBPROTOCOL, offered.clone());
                }
                Ok(response)
            };
        let socket = tokio_tungstenite::accept_hdr_async(stream, agree).await?;
        Ok(Self {
            socket,
            json,
            said_goodbye: false,
        })
    }

    /// The next request; none once the client has gone. Cancel safe.
    pub async fn asked(&mut self) -> Option<ClientFrame> {
        loop {
            match self.socket.next().await?.ok()? {
                Message::Binary(bytes) => return ClientFrame::decode(bytes).ok(),
                Message::Text(text) => return serde_json::from_str(&text).ok(),
                Message::Close(_) => {
                    self.said_goodbye = true;
                    return None;
                }
                _ => {}
            }
        }
    }

    /// Whether the client has sent a close frame.
    pub fn said_goodbye(&self) -> bool {
        self.said_goodbye
    }

    /// Answers a request, or pushes with request id 0.
    pub async fn say(&mut self, request_id: u64, body: server_frame::Body) -> Result<()> {
        let frame = ServerFrame {
            request_id,
            body: Some(body),
        };
        let message = if self.json {
            Message::text(serde_json::to_string(&frame)?)
        } else {
            Message::binary(frame.encode_to_vec())
        };
        self.socket
            .send(message)
            .await
            .context("the client has gone")
    }

    /// Asks the client for a sign of life and waits for it; false if something else came.
    pub async fn ping(&mut self, payload: &'static [u8]) -> Result<bool> {
        self.socket.send(Message::Ping(payload.into())).await?;
        let next = self.socket.next().await.context("the client has gone")??;
        Ok(next == Message::Pong(payload.into()))
    }

    /// Closes, and waits until the client has hung up.
    pub async fn close(&mut self, code: u16, reason: &'static str) -> Result<()> {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        self.socket.close(Some(frame)).await?;
        while self.socket.next().await.is_some() {}
        Ok(())
    }
}
