//! The client against a gateway of a few lines, which answers as each test wants.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use parlance_proto::client::v1::{
    Event, LoginResponse, PingResponse, ReconnectNotice, ResyncNotice, SendResponse, ServerFrame,
};
use parlance_proto::common::v1::{Error, ErrorCode};
use prost::Message as _;
use server_frame::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

use super::*;
use crate::client::{Push, text_to};

type ServerSocket = WebSocketStream<TcpStream>;

/// Accepts one connection and runs `script` with it.
async fn gateway<F>(script: impl FnOnce(ServerSocket) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        #[allow(clippy::result_large_err, reason = "the type is the library's")]
        let choose =
            |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                let wanted = request
                    .headers()
                    .get("sec-websocket-protocol")
                    .unwrap()
                    .clone();
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", wanted);
                Ok(response)
            };
        let socket = tokio_tungstenite::accept_hdr_async(tcp, choose)
            .await
            .unwrap();
        script(socket).await;
    });
    format!("ws://{address}/ws")
}

async fn asked(socket: &mut ServerSocket) -> ClientFrame {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => return ClientFrame::decode(bytes).unwrap(),
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            _ => {}
        }
    }
}

async fn say(socket: &mut ServerSocket, request_id: u64, body: Body) {
    let frame = ServerFrame {
        request_id,
        body: Some(body),
    };
    socket
        .send(Message::Binary(frame.encode_to_vec().into()))
        .await
        .unwrap();
}

fn stored(seq: u64) -> Body {
    Body::Send(SendResponse {
        seq,
        ..Default::default()
    })
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order_and_errors_keep_the_connection() {
    let url = gateway(async |mut socket| {
        let (one, two) = (asked(&mut socket).await, asked(&mut socket).await);
        say(&mut socket, two.request_id, stored(2)).await;
        say(&mut socket, one.request_id, stored(1)).await;
        let refused = asked(&mut socket).await.request_id;
        say(
            &mut socket,
            refused,
            Body::Error(Error::new(ErrorCode::Conflict, "other payload")),
        )
        .await;
        let login = asked(&mut socket).await;
        let Some(client_frame::Body::Login(request)) = login.body else {
            panic!("login expected")
        };
        assert_eq!(
            (request.token.as_str(), request.platform.as_str()),
            ("secret", "cli")
        );
        say(
            &mut socket,
            login.request_id,
            Body::Login(LoginResponse::default()),
        )
        .await;
        asked(&mut socket).await;
    })
    .await;
    let (client, _pushes) = connect(&url, Options::default()).await.unwrap();
    let one = client.submit_send(text_to("bob", "m1", "x")).await.unwrap();
    let two = client.submit_send(text_to("bob", "m2", "y")).await.unwrap();
    assert_eq!(one.response().await.unwrap().seq, 1);
    assert_eq!(two.response().await.unwrap().seq, 2);
    let refused = client.send_text("bob", "m1", "z").await.unwrap_err();
    assert_eq!(
        refused.rejected().map(Error::code),
        Some(ErrorCode::Conflict)
    );
    assert!(!refused.outcome_unknown());
    client.login("secret").await.unwrap();
}

#[tokio::test]
async fn json_says_the_same() {
    let url = gateway(async |mut socket| {
        let ping = asked(&mut socket).await;
        let body = Some(Body::Ping(PingResponse { server_time_ms: 5 }));
        let answer = ServerFrame {
            request_id: ping.request_id,
            body,
        };
        socket
            .send(Message::Text(
                serde_json::to_string(&answer).unwrap().into(),
            ))
            .await
            .unwrap();
        asked(&mut socket).await;
    })
    .await;
    let options = Options {
        format: crate::client::WireFormat::Json,
        ..Options::default()
    };
    let (client, _pushes) = connect(&url, options).await.unwrap();
    assert_eq!(client.ping().await.unwrap().server_time_ms, 5);
}

#[tokio::test]
async fn pushes_come_in_order_and_the_close_code_ends_everything() {
    let url = gateway(async |mut socket| {
        asked(&mut socket).await;
        say(
            &mut socket,
            0,
            Body::Event(Event {
                seq: 1,
                ..Default::default()
            }),
        )
        .await;
        say(
            &mut socket,
            0,
            Body::Event(Event {
                seq: 2,
                ..Default::default()
            }),
        )
        .await;
        say(&mut socket, 0, Body::Resync(ResyncNotice {})).await;
        say(
            &mut socket,
            0,
            Body::Reconnect(ReconnectNotice { within_ms: 9 }),
        )
        .await;
        let frame = CloseFrame {
            code: CloseCode::from(4002),
            reason: "token refused".into(),
        };
        socket.close(Some(frame)).await.unwrap();
        while socket.next().await.is_some() {}
    })
    .await;
    let (client, mut pushes) = connect(&url, Options::default()).await.unwrap();
    let waiting = client
        .submit(client_frame::Body::Ping(Default::default()))
        .await
        .unwrap();
    let mut got = Vec::new();
    while let Some(push) = pushes.recv().await {
        got.push(push);
    }
    assert!(
        matches!(&got[..2], [Push::Event(a), Push::Event(b)] if (a.seq, b.seq) == (1, 2)),
        "{got:?}"
    );
    assert_eq!(got[2..], [Push::Resync, Push::Reconnect { within_ms: 9 }]);
    let closed = client.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(4002), "token refused")
    );
    assert!(matches!(waiting.wait().await, Err(ClientError::Closed(reason)) if reason == closed));
    assert!(matches!(client.ping().await, Err(ClientError::Closed(reason)) if reason == closed));
}

#[tokio::test]
async fn silence_is_a_timeout_and_a_late_answer_harms_nobody() {
    let url = gateway(async |mut socket| {
        let late = asked(&mut socket).await.request_id;
        let next = asked(&mut socket).await.request_id;
        say(&mut socket, late, stored(1)).await;
        say(&mut socket, next, stored(2)).await;
        asked(&mut socket).await;
    })
    .await;
    let options = Options {
        request_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let (client, _pushes) = connect(&url, options).await.unwrap();
    let error = client.send_text("bob", "m1", "x").await.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Timeout {
                request: "send",
                ..
            }
        ) && error.outcome_unknown(),
        "{error}"
    );
    assert_eq!(client.send_text("bob", "m2", "y").await.unwrap().seq, 2);
}

#[tokio::test]
async fn a_quiet_connection_is_kept_alive_and_dropping_it_closes_it_cleanly() {
    let (done, ended) = oneshot::channel();
    let url = gateway(async |mut socket| {
        let ping = asked(&mut socket).await;
        assert!(matches!(ping.body, Some(client_frame::Body::Ping(_))));
        say(
            &mut socket,
            ping.request_id,
            Body::Ping(PingResponse::default()),
        )
        .await;
        let mut closed = false;
        while let Some(Ok(message)) = socket.next().await {
            closed |= message.is_close();
        }
        done.send(closed).unwrap();
    })
    .await;
    let options = Options {
        keepalive: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let (client, pushes) = connect(&url, options).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    drop((client, pushes));
    assert!(ended.await.unwrap());
}

#[tokio::test]
async fn an_address_that_does_not_answer_says_so() {
    let error = connect("ws://127.0.0.1:1/ws", Options::default())
        .await
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .starts_with("cannot connect to ws://127.0.0.1:1/ws: "),
        "{error}"
    );
    assert!(!error.outcome_unknown());
    let error = connect("http://127.0.0.1:1/ws", Options::default())
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("ws://"), "{error}");
}
