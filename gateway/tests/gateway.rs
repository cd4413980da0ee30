//! The gateway between fake nodes and real WebSocket clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use futures::{SinkExt, StreamExt};
use parlance_gateway::ListenerTls;
use parlance_proto::client::v1::{
    ClientFrame, Content, ConversationsRequest, CustomContent, HistoryRequest, LoginRequest,
    PingRequest, SendRequest, client_frame, content, history_request, send_request, server_frame,
};
use parlance_proto::common::v1::{ErrorCode, VersionRange};
use prost::Message as _;
use server_frame::Body;
use support::client::{Client, Next, code, send_to, sent, token};
use support::{Rig, eventually};
use tokio_tungstenite::tungstenite::Message;

const AB: &str = "d:5:alice:bob";

#[tokio::test]
async fn two_users_chat_and_a_repeated_send_is_stored_once() {
    let rig = Rig::start(2, |_| ()).await;
    let address = rig.address();
    let mut alice = Client::login(address, "alice").await;
    let mut bob = Client::login(address, "bob").await;
    let first = sent(alice.ask(send_to("bob", "m1", "hello")).await);
    assert_eq!(
        (first.seq, first.duplicate, first.conversation_id.as_str()),
        (1, false, AB)
    );
    match bob.frame().await.body {
        Some(Body::Event(event)) => assert_eq!((event.seq, event.sender.as_str()), (1, "alice")),
        other => panic!("{other:?}"),
    }
    let again = sent(alice.ask(send_to("bob", "m1", "hello")).await);
    assert_eq!((again.seq, again.duplicate), (1, true));
    assert_eq!(
        code(&alice.ask(send_to("bob", "m1", "other")).await),
        ErrorCode::Conflict
    );

    let target = Some(history_request::Target::WithUser("alice".into()));
    let history = bob
        .ask(client_frame::Body::History(HistoryRequest {
            target,
            ..HistoryRequest::default()
        }))
        .await;
    assert!(matches!(history, Body::History(h) if h.events.len() == 1 && h.head_seq == 1));
    let list = bob
        .ask(client_frame::Body::Conversations(
            ConversationsRequest::default(),
        ))
        .await;
    assert!(matches!(list, Body::Conversations(l) if l.conversations[0].conversation_id == AB));
    eventually("everything is acknowledged", || rig.world.unacked() == 0).await;
}

#[tokio::test]
async fn clients_come_over_tls_if_the_listener_has_a_certificate() {
    let rig = Rig::start(1, |config| {
        config.listener[0].tls = Some(ListenerTls {
            cert: config.tls.cert.clone(),
            key: config.tls.key.clone(),
        });
    })
    .await;
    let address = rig.address();
    let name = support::gateway_role().dns_names().remove(0);
    let tls = rig.tls_client(&name, address).await;
    let mut alice = Client::over(tls, &format!("wss://{name}/ws")).await;
    alice.log_in("alice").await;
    let stored = sent(
        alice
            .ask(send_to("bob", "m1", "x".repeat(30_000).as_str()))
            .await,
    );
    assert_eq!(stored.seq, 1);
    let plain = tokio_tungstenite::connect_async(format!("ws://{address}/ws")).await;
    assert!(plain.is_err(), "no way around it");
}

#[tokio::test]
async fn many_sends_in_flight_keep_their_order() {
    let rig = Rig::start(1, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    for i in 0..100 {
        alice.start(send_to("bob", &format!("m{i}"), "x")).await;
    }
    for i in 0..100 {
        let frame = alice.frame().await;
        assert_eq!(sent(frame.body.unwrap()).seq, i + 1);
    }
    assert!(
        rig.world.sends() < 100,
        "waiting messages of one conversation travel together"
    );
}

#[tokio::test]
async fn a_login_that_the_cluster_does_not_answer_closes_with_4103() {
    let rig = Rig::start(1, |c| c.limits.request_timeout_ms = 300).await;
    rig.world.lose(rig.world.slot_of_user("alice"));
    let mut alice = Client::connect(rig.address(), "parlance.v1").await;
    let refused = alice.try_log_in(&token("alice")).await;
    assert_eq!(code(&refused), ErrorCode::Unavailable);
    assert!(matches!(alice.next().await, Next::Closed(4103)));
}

#[tokio::test]
async fn an_id_with_a_character_that_nobody_sees_is_refused_and_says_which() {
    let rig = Rig::start(1, |_| {}).await;
    let says = |body: &Body, expected: ErrorCode| {
        let Body::Error(error) = body else {
            panic!("{body:?}")
        };
        assert_eq!(error.code(), expected);
        assert!(error.message.contains("U+202E"), "{}", error.message);
    };
    let mut client = Client::connect(rig.address(), "parlance.v1").await;
    let login = LoginRequest {
        token: token("alice"),
        device_id: "phone\u{202e}".into(),
        ..LoginRequest::default()
    };
    says(
        &client.ask(client_frame::Body::Login(login)).await,
        ErrorCode::InvalidArgument,
    );
    client.log_in("alice").await;
    for to in ["\u{202e}bob", "bob\u{202e}"] {
        let answer = client.ask(send_to(to, "m1", "x")).await;
        says(&answer, ErrorCode::InvalidArgument);
    }
    let mut other = Client::connect(rig.address(), "parlance.v1").await;
    let refused = other.try_log_in(&token("al\u{202e}ice")).await;
    says(&refused, ErrorCode::TokenInvalid);
}

#[tokio::test]
async fn bad_frames_get_their_error_and_close_code() {
    let rig = Rig::start(1, |c| c.limits.frame_bytes_max = 4096).await;
    let address = rig.address();
    let rows = [
        (
            "parlance.v1",
            Message::binary(vec![0xff; 20]),
            ErrorCode::MalformedFrame,
            4000,
        ),
        (
            "parlance.v1",
            Message::text("{}"),
            ErrorCode::MalformedFrame,
            4000,
        ),
        (
            "parlance.v1.json",
            Message::binary(vec![]),
            ErrorCode::MalformedFrame,
            4000,
        ),
        (
            "parlance.v1.json",
            Message::text("[1,2"),
            ErrorCode::MalformedFrame,
            4000,
        ),
        (
            "parlance.v1",
            Message::binary(vec![0; 5000]),
            ErrorCode::FrameTooLarge,
            1009,
        ),
        (
            "parlance.v1",
            Message::binary(vec![0; 3_000_000]),
            ErrorCode::FrameTooLarge,
            1009,
        ),
    ];
    for (protocol, message, error, close) in rows {
        let mut client = Client::connect(address, protocol).await;
        client.socket.send(message).await.unwrap();
        match client.next().await {
            Next::Frame(body) => assert_eq!(code(&body), error),
            other => panic!("{other:?}"),
        }
        assert!(
            matches!(client.next().await, Next::Closed(code) if code == close),
            "{error:?}"
        );
    }
    let mut client = Client::connect(address, "parlance.v1").await;
    let login = LoginRequest {
        token: "guess".into(),
        ..LoginRequest::default()
    };
    assert_eq!(
        code(&client.ask(client_frame::Body::Login(login)).await),
        ErrorCode::TokenInvalid
    );
    assert!(matches!(client.next().await, Next::Closed(4002)));
}

#[tokio::test]
async fn requests_that_break_a_rule_leave_the_connection_open() {
    let rig = Rig::start(1, |_| ()).await;
    let address = rig.address();
    let mut client = Client::connect(address, "parlance.v1").await;
    assert_eq!(
        code(&client.ask(send_to("bob", "m1", "x")).await),
        ErrorCode::NotLoggedIn
    );
    let login = LoginRequest {
        token: token("alice"),
        ..LoginRequest::default()
    };
    assert!(matches!(
        client.ask(client_frame::Body::Login(login.clone())).await,
        Body::Login(_)
    ));
    assert_eq!(
        code(&client.ask(client_frame::Body::Login(login)).await),
        ErrorCode::AlreadyLoggedIn
    );
    for (id, body, expected) in [
        (
            0,
            Some(client_frame::Body::Ping(PingRequest {})),
            ErrorCode::InvalidArgument,
        ),
        (99, None, ErrorCode::Unsupported),
    ] {
        let frame = ClientFrame {
            request_id: id,
            body,
        };
        client
            .socket
            .send(Message::binary(frame.encode_to_vec()))
            .await
            .unwrap();
        let answer = client.frame().await;
        assert_eq!(
            (answer.request_id, code(&answer.body.unwrap())),
            (id, expected)
        );
    }
    let large = CustomContent {
        r#type: 1,
        data: vec![0; 33 * 1024].into(),
    };
    let send = |conversation: &str, kind: Option<content::Kind>| {
        client_frame::Body::Send(SendRequest {
            target: Some(send_request::Target::ConversationId(conversation.into())),
            client_message_id: "m".into(),
            content: Some(Content { kind }),
            ..SendRequest::default()
        })
    };
    let text = || Some(content::Kind::Text("x".into()));
    for (body, expected) in [
        (send("d:3:bob:carol", text()), ErrorCode::PermissionDenied),
        (send("nonsense", text()), ErrorCode::InvalidArgument),
        (send(AB, None), ErrorCode::InvalidArgument),
        (
            send(AB, Some(content::Kind::Custom(large))),
            ErrorCode::PayloadTooLarge,
        ),
        (send_to("bob", "", "x"), ErrorCode::InvalidArgument),
        (send_to("alice", "m", "x"), ErrorCode::InvalidArgument),
    ] {
        assert_eq!(code(&client.ask(body).await), expected);
    }
    assert_eq!(sent(client.ask(send(AB, text())).await).seq, 1);
}

#[tokio::test]
async fn silence_closes_a_connection_before_and_after_a_login() {
    let rig = Rig::start(1, |c| {
        (c.limits.login_timeout_ms, c.limits.idle_timeout_ms) = (200, 1000)
    })
    .await;
    let mut client = Client::connect(rig.address(), "parlance.v1").await;
    assert!(matches!(client.next().await, Next::Closed(4102)));
    // A client that answers pings stays; one that does not even read is closed as idle.
    let mut awake = Client::login(rig.address(), "awake").await;
    let mut asleep = Client::login(rig.address(), "asleep").await;
    let reading = tokio::spawn(async move {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), awake.socket.next()).await;
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(2);
        while tokio::time::timeout_at(until, awake.socket.next())
            .await
            .is_ok()
        {}
        awake
    });
    let mut awake = reading.await.unwrap();
    assert!(matches!(
        awake.ask(client_frame::Body::Ping(PingRequest {})).await,
        Body::Ping(_)
    ));
    assert!(matches!(asleep.next().await, Next::Closed(4101)));
}

#[tokio::test]
async fn a_graceful_stop_tells_clients_and_closes_with_1001() {
    let rig = Rig::start(1, |_| ()).await;
    let address = rig.address();
    let mut alice = Client::login(address, "alice").await;
    let stopping = tokio::spawn(rig.gateway.shutdown());
    assert!(matches!(alice.next().await, Next::Frame(Body::Reconnect(n)) if n.within_ms > 0));
    assert_eq!(
        sent(alice.ask(send_to("bob", "m1", "still served")).await).seq,
        1
    );
    assert!(matches!(alice.next().await, Next::Closed(1001)));
    stopping.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_client_without_our_subprotocol_is_refused() {
    let rig = Rig::start(1, |_| ()).await;
    let refused = tokio_tungstenite::connect_async(format!("ws://{}/ws", rig.address())).await;
    match refused.unwrap_err() {
        tokio_tungstenite::tungstenite::Error::Http(response) => assert_eq!(response.status(), 400),
        other => panic!("{other}"),
    }
    let mut json = Client::connect(rig.address(), "parlance.v1.json").await;
    let login = format!(
        r#"{{"requestId":"1","login":{{"token":"{}","unknown":1}}}}"#,
        token("alice")
    );
    json.socket.send(Message::text(login)).await.unwrap();
    assert!(matches!(json.next().await, Next::Frame(Body::Login(_))));
}

#[tokio::test]
async fn all_listeners_serve_and_drain_together() {
    let rig = Rig::start(1, |config| {
        let mut secure = support::free_port();
        secure.tls = Some(ListenerTls {
            cert: config.tls.cert.clone(),
            key: config.tls.key.clone(),
        });
        config.listener = vec![support::free_port(), secure];
    })
    .await;
    let addresses = rig.gateway.addresses().to_vec();
    let name = support::gateway_role().dns_names().remove(0);
    let mut alice = Client::login(addresses[0], "alice").await;
    let tls = rig.tls_client(&name, addresses[1]).await;
    let mut bob = Client::over(tls, &format!("wss://{name}/ws")).await;
    bob.log_in("bob").await;
    assert_eq!(sent(alice.ask(send_to("bob", "m1", "x")).await).seq, 1);
    assert!(matches!(bob.next().await, Next::Frame(Body::Event(e)) if e.seq == 1));
    let stopping = tokio::spawn(rig.gateway.shutdown());
    assert!(matches!(
        alice.next().await,
        Next::Frame(Body::Reconnect(_))
    ));
    assert!(matches!(bob.next().await, Next::Frame(Body::Reconnect(_))));
    assert!(matches!(alice.next().await, Next::Closed(1001)));
    assert!(matches!(bob.next().await, Next::Closed(1001)));
    stopping.await.unwrap();
    for address in addresses {
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn a_login_agrees_on_a_protocol_and_on_whom_the_token_is_for() {
    let rig = Rig::start(1, |_| ()).await;
    let login = |min, max, app: &str| {
        client_frame::Body::Login(LoginRequest {
            token: token("alice"),
            app_id: app.into(),
            protocol: Some(VersionRange { min, max }),
            capabilities: vec!["unheard of".into(), "ordered_sends".into()],
            ..LoginRequest::default()
        })
    };
    let mut client = Client::connect(rig.address(), "parlance.v1").await;
    match client.ask(login(1, 7, "demo")).await {
        Body::Login(response) => {
            assert_eq!(response.protocol, 1);
            assert_eq!(response.capabilities, ["ordered_sends"]);
        }
        other => panic!("{other:?}"),
    }
    let mut newer = Client::connect(rig.address(), "parlance.v1").await;
    match newer.ask(login(2, 7, "demo")).await {
        Body::Error(error) => {
            assert_eq!(error.code(), ErrorCode::Unsupported);
            assert_eq!(
                error.message,
                "protocol versions 2 to 7 are spoken there, 1 to 1 here"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(newer.next().await, Next::Closed(4004)));
    let mut elsewhere = Client::connect(rig.address(), "parlance.v1").await;
    let refused = elsewhere.ask(login(1, 1, "other")).await;
    assert_eq!(code(&refused), ErrorCode::TokenInvalid);
}

#[tokio::test]
async fn static_files_are_served_beside_the_socket_and_nothing_outside_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("page")).unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    std::fs::write(folder.path().join("page/index.html"), "<p>hi").unwrap();
    let page = folder.path().join("page");
    let rig = Rig::start(1, |config| config.page_dir = Some(page)).await;
    let found = support::http::get(rig.address(), "/").await;
    assert!(
        found.starts_with("HTTP/1.1 200 OK") && found.ends_with("<p>hi"),
        "{found}"
    );
    for header in [
        "text/html",
        "content-security-policy",
        "nosniff",
        "no-cache",
    ] {
        assert!(found.contains(header), "{header} in {found}");
    }
    for path in ["/missing", "/../secret", "/%2e%2e/secret", "/ws/x"] {
        let missing = support::http::get(rig.address(), path).await;
        assert!(missing.starts_with("HTTP/1.1 404"), "{path}: {missing}");
    }
    Client::login(rig.address(), "alice").await;
}
