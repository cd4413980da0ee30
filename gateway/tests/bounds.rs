//! Each bound of a gateway, reached by one client: it is told so, it is counted, and others go on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use std::num::NonZeroU32;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use parlance_gateway::{Config, Network};
use parlance_proto::client::v1::{
    Content, ConversationsRequest, Event, HistoryRequest, LoginRequest, Message as Stored,
    PingRequest, client_frame, content, event, history_request, server_frame::Body,
};
use parlance_proto::common::v1::{AppLimits, Error, ErrorCode};
use support::client::{Client, Next, send_to, token};
use support::counters::{closed, refusals};
use support::{Rig, counters, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

const AB: &str = "d:5:alice:bob";

async fn rig(settings: impl FnOnce(&mut Config)) -> Rig {
    counters::install();
    Rig::start(1, settings).await
}

fn per_second(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

fn overloaded(body: Body) -> Error {
    match body {
        Body::Error(error) if error.code() == ErrorCode::Overloaded => {
            assert!(error.retry_after_ms > 0, "when to try again: {error:?}");
            error
        }
        other => panic!("{other:?}"),
    }
}

fn seq(body: Body) -> u64 {
    match body {
        Body::Send(sent) => sent.seq,
        other => panic!("{other:?}"),
    }
}

fn ping() -> client_frame::Body {
    client_frame::Body::Ping(PingRequest {})
}

fn history() -> client_frame::Body {
    client_frame::Body::History(HistoryRequest {
        target: Some(history_request::Target::ConversationId(AB.into())),
        ..HistoryRequest::default()
    })
}

fn limits(session: u32, user: u32) -> AppLimits {
    AppLimits {
        session_messages_per_second: session,
        user_messages_per_second: user,
        app_messages_per_second: 1000,
    }
}

fn large_event() -> Event {
    let content = Content {
        kind: Some(content::Kind::Text("x".repeat(30_000))),
    };
    let message = Stored {
        client_message_id: "m".into(),
        content: Some(content),
    };
    Event {
        seq: 1,
        body: Some(event::Body::Message(message)),
        ..Event::default()
    }
}

/// Pushes more than the kernel holds for a socket that nobody reads.
async fn flood(rig: &Rig, user: &str) {
    let event = large_event();
    for pushed in 1..=600 {
        rig.world.publish(user, event.clone(), "");
        if pushed % 20 == 0 {
            eventually("the gateway takes them", || rig.world.unacked() == 0).await;
        }
    }
}

#[tokio::test]
async fn messages_a_second_are_limited_as_the_app_says_and_says_anew() {
    let rig = rig(|_| ()).await;
    let (mut alice, mut bob) = (
        Client::login(rig.address(), "alice").await,
        Client::login(rig.address(), "bob").await,
    );
    rig.world.set_limits(limits(1, 1000));
    let mut refused = None;
    for number in 0..100 {
        let answer = alice
            .ask(send_to("carol", &format!("m{number}"), "x"))
            .await;
        if let Body::Error(_) = answer {
            refused = Some(overloaded(answer));
            break;
        }
    }
    let error = refused.expect("a limit of one message a second");
    assert!(error.retry_after_ms >= 500, "{error:?}");
    assert!(refusals("messages_session") > 0);
    // What was sent before the client could know is refused too.
    overloaded(alice.ask(send_to("carol", "next", "x")).await);
    assert_eq!(seq(bob.ask(send_to("dave", "m1", "others go on")).await), 1);
    // Live, and for sessions that are there.
    rig.world.set_limits(limits(1000, 1000));
    tokio::time::sleep(Duration::from_millis(error.retry_after_ms.into())).await;
    for number in 200..250 {
        seq(alice
            .ask(send_to("carol", &format!("m{number}"), "x"))
            .await);
    }
}

#[tokio::test]
async fn all_sessions_of_a_user_share_the_users_limit() {
    let rig = rig(|_| ()).await;
    rig.world.set_limits(limits(1000, 1));
    // One message of each: no session reaches a limit of its own.
    let mut taken = 0;
    loop {
        let mut session = Client::login(rig.address(), "alice").await;
        let sent = session.ask(send_to("bob", &format!("m{taken}"), "x")).await;
        match sent {
            Body::Send(_) => taken += 1,
            refused => {
                overloaded(refused);
                break;
            }
        }
        assert!(taken < 150, "no limit");
    }
    assert!(refusals("messages_user") > 0);
}

#[tokio::test]
async fn requests_a_second_are_limited_and_a_message_is_none_of_them() {
    let rig = rig(|c| c.limits.requests_per_second = per_second(1)).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut answered = 0;
    while let Body::Ping(_) = alice.ask(ping()).await {
        answered += 1;
        assert!(answered < 1000, "no limit");
    }
    overloaded(alice.ask(history()).await);
    assert!(refusals("requests") > 0);
    assert_eq!(seq(alice.ask(send_to("bob", "m1", "x")).await), 1);
}

#[tokio::test]
async fn reads_of_a_session_run_by_turns_and_keep_nobody_waiting() {
    let rig = rig(|c| c.limits.reads_in_flight_max = 4).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    rig.world.hold_reads();
    for _ in 0..50 {
        alice.start(history()).await;
    }
    eventually("four reads are with the node", || {
        rig.world.held_reads() == 4
    })
    .await;
    // Whatever was going to be sent with them has been sent by now.
    seq(alice
        .ask(send_to("carol", "m1", "messages do not wait"))
        .await);
    assert_eq!(rig.world.held_reads(), 4);
    bob.start(history()).await;
    eventually("bob's read is with the node", || {
        rig.world.held_reads() == 5
    })
    .await;
    let mut answered = 0;
    while answered < 50 {
        rig.world.release_reads();
        let next = tokio::time::timeout(Duration::from_millis(20), alice.frame());
        match next.await.map(|frame| frame.body) {
            Ok(Some(Body::History(_))) => answered += 1,
            Err(_) => {} // the next ones are on their way to the node
            Ok(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn answers_to_reads_wait_for_a_slow_reader_who_stays() {
    let rig = rig(|c| c.limits.outbound_bytes_max = 65_536).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    for number in 0..2 {
        let text = "x".repeat(30_000);
        seq(bob
            .ask(send_to("alice", &format!("m{number}"), &text))
            .await);
    }
    // Some 6 MB of answers, of which a small part has room at a time.
    for _ in 0..100 {
        alice.start(history()).await;
    }
    seq(bob.ask(send_to("carol", "m1", "others go on")).await);
    let mut answered = 0;
    while answered < 100 {
        match alice.frame().await.body {
            Some(Body::History(page)) => {
                assert_eq!(page.events.len(), 2);
                answered += 1;
            }
            Some(Body::Event(_) | Body::Resync(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_to_fetch_and_stays() {
    let rig = rig(|c| c.limits.outbound_bytes_max = 65_536).await;
    let mut slow = Client::login(rig.address(), "slow").await;
    let mut alice = Client::login(rig.address(), "alice").await;
    flood(&rig, "slow").await;
    assert!(matches!(alice.ask(ping()).await, Body::Ping(_)));
    assert!(refusals("outbound_session") > 0);
    let mut read = 0;
    loop {
        match slow.frame().await.body {
            Some(Body::Event(_)) => read += 1,
            Some(Body::Resync(_)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(read < 600, "{read} events were left out by a resync");
    // It is one of us again.
    assert!(matches!(slow.ask(ping()).await, Body::Ping(_)));
    rig.world.publish("slow", large_event(), "");
    while !matches!(slow.frame().await.body, Some(Body::Event(_))) {}
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_closed_in_the_end() {
    let rig = rig(|c| c.limits.write_timeout_ms = 300).await;
    let mut dead = Client::login(rig.address(), "dead").await;
    flood(&rig, "dead").await;
    eventually("it is closed", || closed("too_slow") > 0).await;
    let mut read = 0;
    while let Some(Ok(message)) = dead.socket.next().await {
        read += usize::from(message.is_binary());
    }
    assert!(read < 600, "closed after {read} events");
}

#[tokio::test]
async fn when_too_much_waits_in_all_the_largest_is_cut_off() {
    let rig = rig(|c| {
        c.limits.outbound_total_bytes_max = 1 << 20;
        c.limits.outbound_bytes_max = 64 << 20;
    })
    .await;
    let mut slow = Client::login(rig.address(), "slow").await;
    let mut alice = Client::login(rig.address(), "alice").await;
    flood(&rig, "slow").await;
    eventually("somebody was cut off", || refusals("outbound_total") > 0).await;
    let mut read = 0;
    while let Some(Ok(message)) = slow.socket.next().await {
        read += usize::from(message.is_binary());
    }
    assert!(read < 600, "cut off after {read} events");
    assert_eq!(seq(alice.ask(send_to("bob", "m1", "others stay")).await), 1);
}

#[tokio::test]
async fn bytes_of_unanswered_requests_are_limited_for_the_process() {
    let rig = rig(|c| c.limits.inbound_total_bytes_max = 1 << 20).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    rig.world.hold(1);
    let text = "x".repeat(30_000);
    for number in 0..60 {
        alice
            .start(send_to("bob", &format!("m{number}"), &text))
            .await;
    }
    overloaded(alice.frame().await.body.unwrap());
    assert!(refusals("inbound_total") > 0);
    rig.world.release();
    let mut stored = 0;
    while stored < 30 {
        if let Some(Body::Send(_)) = alice.frame().await.body {
            stored += 1;
        }
    }
    seq(bob.ask(send_to("carol", "m1", "there is room again")).await);
}

#[tokio::test]
async fn of_a_users_sessions_the_newest_stay() {
    let rig = rig(|c| c.limits.sessions_per_user_max = 2).await;
    let mut other = Client::login(rig.address(), "bob").await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(Client::login(rig.address(), "alice").await);
    }
    for replaced in &mut sessions[..2] {
        assert!(matches!(replaced.next().await, Next::Closed(4005)));
    }
    for (number, stays) in sessions[2..].iter_mut().enumerate() {
        let sent = stays
            .ask(send_to("carol", &format!("m{number}"), "x"))
            .await;
        assert_eq!(seq(sent), number as u64 + 1);
    }
    assert!(refusals("sessions_per_user") >= 2);
    seq(other.ask(send_to("dave", "m1", "x")).await);
}

#[tokio::test]
async fn logins_of_an_address_are_limited_and_those_who_are_in_stay() {
    let rig = rig(|c| c.limits.logins_per_address = per_second(1)).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let login = || {
        client_frame::Body::Login(LoginRequest {
            token: token("bob"),
            ..LoginRequest::default()
        })
    };
    let mut refused = None;
    for _ in 0..50 {
        let mut client = Client::connect(rig.address(), "parlance.v1").await;
        match client.ask(login()).await {
            Body::Login(_) => {}
            other => {
                overloaded(other);
                refused = Some(client.next().await);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(Next::Closed(4104))), "{refused:?}");
    assert!(refusals("logins_per_address") > 0);
    assert!(matches!(alice.ask(ping()).await, Body::Ping(_)));
}

#[tokio::test]
async fn whoever_waits_longest_without_a_login_gives_way_to_users() {
    let rig = rig(|c| c.limits.connections_waiting_max = 3).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut silent = TcpStream::connect(rig.address()).await.unwrap();
    let mut upgraded = Client::connect(rig.address(), "parlance.v1").await;
    let mut more = Vec::new();
    for _ in 0..4 {
        more.push(TcpStream::connect(rig.address()).await.unwrap());
    }
    // The pool is full of silent ones: a user gets in all the same.
    let mut bob = Client::login(rig.address(), "bob").await;
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert!(matches!(upgraded.next().await, Next::Closed(4104)));
    assert!(refusals("connections_waiting") >= 2);
    for client in [&mut alice, &mut bob] {
        assert!(matches!(client.ask(ping()).await, Body::Ping(_)));
    }
}

/// Linux has all of 127.0.0.0/8 for a loopback.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_opens_many_sockets_takes_the_place_of_nobody_at_another_address() {
    let rig = rig(|c| c.limits.connections_waiting_max = 8).await;
    let from_elsewhere = tokio::net::TcpSocket::new_v4().unwrap();
    from_elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream = from_elsewhere.connect(rig.address()).await.unwrap();
    let mut slow = Client::over(stream, "ws://localhost/ws").await;
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(TcpStream::connect(rig.address()).await.unwrap());
    }
    // The first of them has given way, so all of them have come.
    for socket in &mut flood[..90] {
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }
    slow.log_in("alice").await;
    assert!(matches!(slow.ask(ping()).await, Body::Ping(_)));
}

#[tokio::test]
async fn little_may_come_before_a_login_and_more_after_it() {
    let rig = rig(|_| ()).await;
    let mut stranger = Client::connect(rig.address(), "parlance.v1").await;
    let frame = Message::binary(vec![0; 20_000]);
    stranger.socket.send(frame).await.unwrap();
    match stranger.next().await {
        Next::Frame(Body::Error(error)) => assert_eq!(error.code(), ErrorCode::FrameTooLarge),
        other => panic!("{other:?}"),
    }
    assert!(matches!(stranger.next().await, Next::Closed(1009)));
    let mut alice = Client::login(rig.address(), "alice").await;
    let text = "x".repeat(30_000);
    assert_eq!(seq(alice.ask(send_to("bob", "m1", &text)).await), 1);
}

#[tokio::test]
async fn a_page_of_conversations_ends_by_bytes_and_pages_join() {
    let rig = rig(|_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let text = "x".repeat(2000);
    for number in 0..80 {
        let peer = format!("peer{number:02}");
        seq(alice.ask(send_to(&peer, "m", &text)).await);
    }
    for (max_bytes, least_pages) in [(0, 3), (10_000, 16)] {
        let (mut after, mut seen, mut pages) = (String::new(), Vec::new(), 0);
        let asked = rig.world.heads();
        loop {
            let ask = ConversationsRequest {
                after: after.clone(),
                max_bytes,
                ..ConversationsRequest::default()
            };
            let Body::Conversations(page) = alice.ask(client_frame::Body::Conversations(ask)).await
            else {
                panic!("no page");
            };
            let listed = page.conversations.into_iter();
            seen.extend(listed.map(|c| c.conversation_id));
            pages += 1;
            if page.next_after.is_empty() {
                break;
            }
            after = page.next_after;
        }
        assert_eq!(seen.len(), 80);
        assert!(seen.is_sorted() && pages >= least_pages, "{pages} pages");
        let asked = rig.world.heads() - asked;
        assert!(asked <= 80 + pages, "{asked} heads for 80 on {pages} pages");
    }
}

#[tokio::test]
async fn conversations_are_shown_by_their_ids_as_many_as_fit() {
    let rig = rig(|_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let text = "x".repeat(2000);
    let mut left: Vec<String> = (0..20).map(|n| format!("d:5:alice:peer{n:02}")).collect();
    for id in &left[1..] {
        let peer = id.rsplit(':').next().unwrap();
        seq(alice.ask(send_to(peer, "m", &text)).await);
    }
    let mut ask = async |conversation_ids: Vec<String>| {
        let ask = ConversationsRequest {
            conversation_ids,
            max_bytes: 10_000,
            ..ConversationsRequest::default()
        };
        alice.ask(client_frame::Body::Conversations(ask)).await
    };
    let mut pages = 0;
    while !left.is_empty() {
        let Body::Conversations(page) = ask(left.clone()).await else {
            panic!("no page");
        };
        for shown in page.conversations {
            assert_eq!(shown.conversation_id, left[0]);
            assert_eq!(
                shown.head_seq,
                u64::from(!left[0].ends_with("00")),
                "without events"
            );
            left.remove(0);
        }
        let last = page.next_after.is_empty();
        assert_eq!(last, left.is_empty());
        pages += 1;
    }
    assert!(pages > 3, "{pages} pages");
    for wrong in [
        vec!["z:1".to_owned()],
        vec!["d:5:alice:bob".to_owned(); 101],
    ] {
        let Body::Error(error) = ask(wrong).await else {
            panic!("not refused")
        };
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
}

/// A header of version 2 for a client at this IPv4 address.
fn header(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&client);
    header.extend_from_slice(&[10, 0, 0, 1, 0x10, 0, 0x01, 0xbb]);
    header
}

#[tokio::test]
async fn a_proxy_says_where_its_clients_are_and_is_believed_only_where_it_may() {
    let network = |text: &str| Network::try_from(text.to_owned()).unwrap();
    let rig = rig(|c| {
        c.limits.logins_per_address = per_second(1);
        c.listener[0].proxies = vec![network("127.0.0.0/8")];
        let mut other = support::free_port();
        other.proxies = vec![network("192.0.2.1")];
        c.listener.push(other);
    })
    .await;
    let url = format!("ws://{}/ws", rig.address());
    let login = async |client: [u8; 4]| {
        let mut stream = TcpStream::connect(rig.address()).await.unwrap();
        stream.write_all(&header(client)).await.unwrap();
        let mut client = Client::over(stream, &url).await;
        let login = LoginRequest {
            token: token("alice"),
            ..LoginRequest::default()
        };
        client.ask(client_frame::Body::Login(login)).await
    };
    let mut count = 0;
    while let Body::Login(_) = login([192, 0, 2, 7]).await {
        count += 1;
        assert!(count < 50, "the address of the client has a limit");
    }
    assert!(matches!(login([192, 0, 2, 8]).await, Body::Login(_)));
    // Without a header, and from where no proxy is.
    assert!(tokio_tungstenite::connect_async(&url).await.is_err());
    let mut stream = TcpStream::connect(rig.gateway.addresses()[1])
        .await
        .unwrap();
    let _ = stream.write_all(&header([192, 0, 2, 7])).await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert!(refusals("not_a_proxy") >= 2);
}
