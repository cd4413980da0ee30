//! What breaks a rule and what is refused have their limits too: a client that floods a gateway with them waits for itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use std::num::NonZeroU32;

use futures::SinkExt;
use parlance_gateway::Config;
use parlance_proto::client::v1::{
    Content, PingRequest, SendRequest, client_frame, send_request, server_frame,
};
use parlance_proto::common::v1::{Error, ErrorCode};
use server_frame::Body;
use support::client::{Client, send_to};
use support::counters::{install, refusals};
use support::{Rig, eventually};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// Requests of a session that are answered at once; as many errors are forgiven.
const AT_ONCE: u32 = 50;

async fn rig() -> Rig {
    install();
    let per_second = NonZeroU32::new(AT_ONCE / 5).unwrap();
    Rig::start(1, |c| c.limits.requests_per_second = per_second).await
}

fn error(body: Body) -> Error {
    match body {
        Body::Error(error) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn ping() -> client_frame::Body {
    client_frame::Body::Ping(PingRequest {})
}

#[tokio::test]
async fn messages_that_break_a_rule_are_limited_as_requests_are() {
    let rig = rig().await;
    let empty = client_frame::Body::Send(SendRequest {
        target: Some(send_request::Target::ToUser("bob".into())),
        client_message_id: "m".into(),
        content: Some(Content { kind: None }),
        ..SendRequest::default()
    });
    for (user, invalid) in [("alice", empty), ("mallory", send_to("", "m", "to nobody"))] {
        let mut client = Client::login(rig.address(), user).await;
        let (mut taken, before) = (0, refusals("requests"));
        let refused = loop {
            let error = error(client.ask(invalid.clone()).await);
            if error.code() == ErrorCode::Overloaded {
                break error;
            }
            assert_eq!(error.code(), ErrorCode::InvalidArgument);
            taken += 1;
            assert!(taken < 1000, "no limit");
        };
        assert!(taken >= AT_ONCE && refused.retry_after_ms > 0, "{taken}");
        assert!(refusals("requests") > before);
        // Messages have their own.
        let sent = client.ask(send_to("bob", "good", "x")).await;
        assert!(matches!(sent, Body::Send(_)), "{sent:?}");
    }
}

#[tokio::test]
async fn whoever_gets_error_after_error_is_read_slowly_and_written_to_as_before() {
    let rig = rig().await;
    let mut mallory = Client::login(rig.address(), "mallory").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    let before = refusals("errors");
    let asked = 3 * AT_ONCE;
    for _ in 0..asked {
        mallory.start(ping()).await;
    }
    eventually("it is slowed down", || refusals("errors") > before).await;
    let sent = bob.ask(send_to("mallory", "m1", "x")).await;
    assert!(matches!(sent, Body::Send(_)), "{sent:?}");
    let (mut answered, mut pushed_after) = (0, None);
    while answered < asked || pushed_after.is_none() {
        match mallory.frame().await.body.unwrap() {
            Body::Event(_) => pushed_after = Some(answered),
            Body::Ping(_) | Body::Error(_) => answered += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(pushed_after < Some(asked), "it came behind the flood");
    assert_eq!(answered, asked, "each is answered in the end");
}

#[tokio::test]
async fn pings_of_websocket_are_limited_too() {
    let rig = rig().await;
    let mut mallory = Client::login(rig.address(), "mallory").await;
    let before = (refusals("requests"), refusals("errors"));
    for _ in 0..3 * AT_ONCE {
        let ping = Message::Ping(Default::default());
        mallory.socket.send(ping).await.unwrap();
    }
    eventually("they are refused", || refusals("requests") > before.0).await;
    eventually("and waited for", || refusals("errors") > before.1).await;
    let sent = mallory.ask(send_to("bob", "m1", "x")).await;
    assert!(matches!(sent, Body::Send(_)), "{sent:?}");
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_turned_away_and_who_is_in_stays() {
    install();
    let one = |c: &mut Config| c.limits.connections_per_address = NonZeroU32::MIN;
    let rig = Rig::start(1, one).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let before = refusals("connections_per_address");
    let mut sockets = Vec::new();
    while refusals("connections_per_address") == before {
        sockets.push(TcpStream::connect(rig.address()).await.unwrap());
        assert!(sockets.len() < 1000, "no limit");
    }
    assert!(sockets.len() >= 4, "{}", sockets.len());
    let mut last = sockets.pop().unwrap();
    // It is told nothing, before TLS and HTTP.
    assert!(!matches!(last.read(&mut [0]).await, Ok(1..)));
    assert!(matches!(alice.ask(ping()).await, Body::Ping(_)));
}
