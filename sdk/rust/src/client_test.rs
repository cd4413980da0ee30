//! The client against a gateway of a few lines, which answers as each test wants.

use parlance_proto::client::v1::{
    Event, LoginResponse, PingRequest, PingResponse, ReconnectNotice, RenewResponse, ResyncNotice,
    SendResponse, TokenExpiringNotice, client_frame,
};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{AppAlias, UserId};
use parlance_testkit::peer::GatewayPeer;
use server_frame::Body;
use std::collections::HashMap;
use tokio::net::TcpListener;

use super::*;
use crate::{Format, Push, text_to};

/// Accepts one connection and runs `script` with it.
async fn gateway<F>(script: impl FnOnce(GatewayPeer) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        script(GatewayPeer::accept(stream).await.unwrap()).await;
    });
    format!("ws://{address}/ws")
}

fn stored(seq: u64) -> Body {
    Body::Send(SendResponse {
        seq,
        ..Default::default()
    })
}

fn event(seq: u64) -> Body {
    Body::Event(Event {
        seq,
        ..Default::default()
    })
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order_and_errors_keep_the_connection() {
    let url = gateway(async |mut peer| {
        let (one, two) = (peer.asked().await.unwrap(), peer.asked().await.unwrap());
        peer.say(two.request_id, stored(2)).await.unwrap();
        peer.say(one.request_id, stored(1)).await.unwrap();
        let refused = peer.asked().await.unwrap().request_id;
        let error = Error::new(ErrorCode::Conflict, "other payload");
        peer.say(refused, Body::Error(error)).await.unwrap();
        let login = peer.asked().await.unwrap();
        let Some(client_frame::Body::Login(request)) = login.body else {
            panic!("login expected")
        };
        assert_eq!(
            (request.token.as_str(), request.platform.as_str()),
            ("secret", "test")
        );
        let fields = (request.app_id.as_str(), request.user_id.as_str());
        assert_eq!(fields, ("demo", "alice"));
        assert_eq!(request.extra["nonce"], "7");
        assert_eq!(request.capabilities, ["rooms"]);
        let spoken = request.protocol.unwrap();
        assert!(spoken.min <= 1 && 1 <= spoken.max);
        let answer = LoginResponse {
            protocol: 1,
            capabilities: request.capabilities,
            ..LoginResponse::default()
        };
        peer.say(login.request_id, Body::Login(answer))
            .await
            .unwrap();
        peer.asked().await;
    })
    .await;
    let (client, _pushes) = connect(&url, Options::default()).await.unwrap();
    let one = client.submit(text_to("bob", "m1", "x")).await.unwrap();
    let two = client.submit(text_to("bob", "m2", "y")).await.unwrap();
    assert_eq!(one.answer().await.unwrap().seq, 1);
    assert_eq!(two.answer().await.unwrap().seq, 2);
    let refused = client.request(text_to("bob", "m1", "z")).await.unwrap_err();
    assert_eq!(
        refused.rejected().map(Error::code),
        Some(ErrorCode::Conflict)
    );
    assert!(!refused.outcome_unknown());
    let options = LoginOptions {
        platform: "test".to_owned(),
        app_id: Some(AppAlias::new("demo").unwrap()),
        user_id: Some(UserId::new("alice").unwrap()),
        extra: [("nonce".to_owned(), "7".to_owned())].into(),
        capabilities: vec!["rooms".to_owned()],
        ..LoginOptions::default()
    };
    let welcome = client.login("secret", &options).await.unwrap();
    assert_eq!(welcome.capabilities, ["rooms"]);
}

#[tokio::test]
async fn versions_that_do_not_meet_end_the_connection_for_good() {
    let url = gateway(async |mut peer| {
        let login = peer.asked().await.unwrap().request_id;
        let error = Error::new(ErrorCode::Unsupported, "versions 8 to 9 are spoken here");
        peer.say(login, Body::Error(error)).await.unwrap();
        peer.close(4004, "unsupported").await.unwrap();
    })
    .await;
    let (client, _pushes) = connect(&url, Options::default()).await.unwrap();
    let refused = client.login("secret", &LoginOptions::default()).await;
    let code = refused.unwrap_err().rejected().map(Error::code);
    assert_eq!(code, Some(ErrorCode::Unsupported));
    let closed = client.closed().await;
    assert!(closed.is_unsupported() && !closed.may_reconnect());
}

#[tokio::test]
async fn a_version_that_was_not_offered_is_the_gateways_fault() {
    let url = gateway(async |mut peer| {
        let login = peer.asked().await.unwrap().request_id;
        let answer = LoginResponse {
            protocol: 9,
            ..LoginResponse::default()
        };
        peer.say(login, Body::Login(answer)).await.unwrap();
        peer.asked().await;
    })
    .await;
    let (client, _pushes) = connect(&url, Options::default()).await.unwrap();
    let error = client.login("secret", &LoginOptions::default()).await;
    assert!(matches!(error, Err(ClientError::Protocol(_))), "{error:?}");
}

#[tokio::test]
async fn json_says_the_same() {
    let url = gateway(async |mut peer| {
        let ping = peer.asked().await.unwrap();
        let answer = Body::Ping(PingResponse { server_time_ms: 5 });
        peer.say(ping.request_id, answer).await.unwrap();
        peer.asked().await;
    })
    .await;
    let options = Options {
        format: Format::Json,
        ..Options::default()
    };
    let (client, _pushes) = connect(&url, options).await.unwrap();
    let answer = client.request(PingRequest {}).await.unwrap();
    assert_eq!(answer.server_time_ms, 5);
}

#[tokio::test]
async fn an_answer_of_another_kind_is_the_gateways_fault() {
    let url = gateway(async |mut peer| {
        let ping = peer.asked().await.unwrap().request_id;
        peer.say(ping, stored(1)).await.unwrap();
        peer.asked().await;
    })
    .await;
    let (client, _pushes) = connect(&url, Options::default()).await.unwrap();
    let error = client.request(PingRequest {}).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)), "{error}");
}

#[tokio::test]
async fn a_renewal_says_when_the_new_token_ends() {
    let url = gateway(async |mut peer| {
        let asked = peer.asked().await.unwrap();
        let Some(client_frame::Body::Renew(renew)) = asked.body else {
            panic!("{:?}", asked.body);
        };
        assert_eq!(renew.token, "new");
        let renewed = RenewResponse {
            token_expires_ms: 8,
        };
        peer.say(asked.request_id, Body::Renew(renewed))
            .await
            .unwrap();
    })
    .await;
    let (client, _pushes) = connect(&url, Options::default()).await.unwrap();
    assert_eq!(client.renew("new", HashMap::new()).await.unwrap(), 8);
}

#[tokio::test]
async fn pushes_come_in_order_and_the_close_code_ends_everything() {
    let url = gateway(async |mut peer| {
        peer.asked().await;
        let notice = ReconnectNotice { within_ms: 9 };
        let expiring = TokenExpiringNotice {
            token_expires_ms: 8,
            within_ms: 7,
        };
        for body in [
            event(1),
            event(2),
            Body::Resync(ResyncNotice { within_ms: 7 }),
            Body::Reconnect(notice),
            Body::TokenExpiring(expiring),
        ] {
            peer.say(0, body).await.unwrap();
        }
        peer.close(4002, "token refused").await.unwrap();
    })
    .await;
    let (client, mut pushes) = connect(&url, Options::default()).await.unwrap();
    let waiting = client.submit(PingRequest {}).await.unwrap();
    let mut got = Vec::new();
    while let Some(push) = pushes.recv().await {
        got.push(push);
    }
    assert!(
        matches!(&got[..2], [Push::Event(a), Push::Event(b)] if (a.seq, b.seq) == (1, 2)),
        "{got:?}"
    );
    let expiring = Push::TokenExpiring {
        token_expires_ms: 8,
        within_ms: 7,
    };
    assert_eq!(
        got[2..],
        [
            Push::Resync { within_ms: 7 },
            Push::Reconnect { within_ms: 9 },
            expiring
        ]
    );
    let closed = client.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(4002), "token refused")
    );
    let is_closed = |result: Result<_, ClientError>| matches!(result, Err(ClientError::Closed(reason)) if reason == closed);
    assert!(is_closed(waiting.answer().await));
    assert!(is_closed(client.request(PingRequest {}).await));
}

#[tokio::test]
async fn silence_is_a_timeout_and_a_late_answer_harms_nobody() {
    let url = gateway(async |mut peer| {
        let late = peer.asked().await.unwrap().request_id;
        let next = peer.asked().await.unwrap().request_id;
        peer.say(late, stored(1)).await.unwrap();
        peer.say(next, stored(2)).await.unwrap();
        peer.asked().await;
    })
    .await;
    let options = Options {
        request_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let (client, _pushes) = connect(&url, options).await.unwrap();
    let error = client.request(text_to("bob", "m1", "x")).await.unwrap_err();
    let timed_out = matches!(error, ClientError::Timeout { request, .. } if request == "send");
    assert!(timed_out && error.outcome_unknown(), "{error}");
    let next = client.request(text_to("bob", "m2", "y")).await.unwrap();
    assert_eq!(next.seq, 2);
}

#[tokio::test]
async fn a_quiet_connection_is_kept_alive_and_dropping_it_closes_it_cleanly() {
    let (kept, alive) = oneshot::channel();
    let (done, ended) = oneshot::channel();
    let url = gateway(async |mut peer| {
        assert!(peer.ping(b"there?").await.unwrap());
        let ping = peer.asked().await.unwrap();
        assert!(matches!(ping.body, Some(client_frame::Body::Ping(_))));
        let answer = Body::Ping(PingResponse::default());
        peer.say(ping.request_id, answer).await.unwrap();
        kept.send(()).unwrap();
        while peer.asked().await.is_some() {}
        done.send(peer.said_goodbye()).unwrap();
    })
    .await;
    let options = Options {
        keepalive: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let (client, pushes) = connect(&url, options).await.unwrap();
    alive.await.unwrap();
    drop((client, pushes));
    assert!(ended.await.unwrap());
}

#[tokio::test]
async fn a_gateway_that_is_never_heard_again_is_given_up() {
    let (given_up, rest) = oneshot::channel::<()>();
    let url = gateway(async |peer| {
        // Open, and silent as after a power cut.
        let _ = rest.await;
        drop(peer);
    })
    .await;
    let options = Options {
        keepalive: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let (client, _pushes) = connect(&url, options).await.unwrap();
    let closed = client.closed().await;
    assert!(closed.reason.contains("nothing was heard"), "{closed}");
    drop(given_up);
}

#[tokio::test]
async fn an_address_that_does_not_answer_says_so() {
    let refused = async |url: &str| connect(url, Options::default()).await.err().unwrap();
    let error = refused("ws://127.0.0.1:1/ws").await;
    let text = error.to_string();
    assert!(
        text.starts_with("cannot connect to ws://127.0.0.1:1/ws: "),
        "{text}"
    );
    assert!(!error.outcome_unknown());
    for url in ["http://127.0.0.1:1/ws", "127.0.0.1:1", "ws://"] {
        let text = refused(url).await.to_string();
        assert!(text.contains("ws://"), "{text}");
    }
}
