//! What operators say about apps and users, and what tokens say about time, while sessions are there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use std::net::SocketAddr;

use parlance_proto::client::v1::{PingRequest, RenewRequest, client_frame, server_frame::Body};
use parlance_proto::common::v1::{Error, ErrorCode, TokenFormat};
use parlance_proto::limits::LINK_FRAME_BYTES_MAX;
use parlance_proto::link::v1::{AppSecret, Kick};
use parlance_testkit::clock::unix_seconds as now;
use parlance_testkit::token::Signer;
use serde_json::json;
use support::Rig;
use support::client::{Client, Next, token};
use support::world::{SECRET, World};

const LEEWAY: i64 = 5;

/// A token from one time to another, in seconds from now.
fn token_for(user: &str, iat: i64, exp: i64) -> String {
    let claims = json!({"app": "demo", "sub": user, "iat": now() + iat, "exp": now() + exp});
    Signer::new("demo", SECRET).sign(&claims)
}

async fn logged_in(address: SocketAddr, token: &str) -> Client {
    let mut client = Client::connect(address, "parlance.v1").await;
    match client.try_log_in(token).await {
        Body::Login(response) => assert!(response.token_expires_ms > 0),
        other => panic!("{other:?}"),
    }
    client
}

/// The session is told why, and then closed.
async fn ends_with(client: &mut Client, error: ErrorCode, code: u16) -> Error {
    let told = loop {
        match client.next().await {
            Next::Frame(Body::Error(told)) => break told,
            Next::Frame(_) => {}
            Next::Closed(code) => panic!("closed with {code} without a word"),
        }
    };
    assert_eq!(told.code(), error);
    assert!(matches!(client.next().await, Next::Closed(c) if c == code));
    told
}

async fn is_refused(address: SocketAddr, token: &str, error: ErrorCode, code: u16) -> Error {
    let mut client = Client::connect(address, "parlance.v1").await;
    match client.try_log_in(token).await {
        Body::Error(told) => {
            assert_eq!(told.code(), error);
            assert!(matches!(client.next().await, Next::Closed(c) if c == code));
            told
        }
        other => panic!("{other:?}"),
    }
}

async fn answers(client: &mut Client) {
    let pong = client.ask(client_frame::Body::Ping(PingRequest {})).await;
    assert!(matches!(pong, Body::Ping(_)));
}

async fn renew(client: &mut Client, token: String) -> Body {
    let request = RenewRequest {
        token,
        ..RenewRequest::default()
    };
    client.ask(client_frame::Body::Renew(request)).await
}

#[tokio::test]
async fn a_cluster_of_more_apps_than_one_message_carries_is_known_whole() {
    const APPS: usize = 120_000;
    let world = World::new();
    world.add_apps(APPS);
    let rig = Rig::start_in(world, 2, |_| ()).await;
    assert!(rig.world.told_bytes() > LINK_FRAME_BYTES_MAX);
    answers(&mut Client::login(rig.address(), "alice").await).await;
    for app in ["app0".to_owned(), format!("app{}", APPS - 1)] {
        // Only whoever signs with the app's secret is told.
        let token = Signer::new(&app, SECRET).token("bob");
        is_refused(rig.address(), &token, ErrorCode::AppDisabled, 4006).await;
    }
}

#[tokio::test]
async fn a_disabled_app_has_no_sessions_until_it_is_enabled() {
    let rig = Rig::start(2, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    rig.world.change_app(|app| app.disabled = true);
    for client in [&mut alice, &mut bob] {
        ends_with(client, ErrorCode::AppDisabled, 4006).await;
    }
    is_refused(rig.address(), &token("alice"), ErrorCode::AppDisabled, 4006).await;
    // A stranger is not told.
    let forged = Signer::new("demo", "a guess").token("alice");
    is_refused(rig.address(), &forged, ErrorCode::TokenInvalid, 4002).await;
    rig.world.change_app(|app| app.disabled = false);
    support::eventually_async("alice logs in", async || {
        let mut client = Client::connect(rig.address(), "parlance.v1").await;
        matches!(client.try_log_in(&token("alice")).await, Body::Login(_))
    })
    .await;
}

#[tokio::test]
async fn a_kicked_user_needs_a_newer_token_and_others_do_not_notice() {
    let rig = Rig::start(2, |_| ()).await;
    let address = rig.address();
    let (mut one, mut two) = (
        Client::login(address, "alice").await,
        Client::login(address, "alice").await,
    );
    let mut bob = Client::login(address, "bob").await;
    let kicked = |until_ms| Kick {
        app_id: "demo".into(),
        user_id: "alice".into(),
        kicked_ms: now() * 1000 + 1,
        until_ms,
        reason: "spam".into(),
    };
    rig.world.kick(kicked(0));
    for client in [&mut one, &mut two] {
        let told = ends_with(client, ErrorCode::Kicked, 4003).await;
        assert!(told.message.contains("spam"), "{}", told.message);
    }
    answers(&mut bob).await;
    let old = token_for("alice", -1, 60);
    is_refused(address, &old, ErrorCode::Kicked, 4003).await;
    let mut alice = logged_in(address, &token_for("alice", 2, 60)).await;

    // Kept out for a time, whatever the token.
    rig.world.kick(kicked((now() + 600) * 1000));
    ends_with(&mut alice, ErrorCode::Kicked, 4003).await;
    let new = token_for("alice", 4, 60);
    let told = is_refused(address, &new, ErrorCode::Kicked, 4003).await;
    assert!(told.retry_after_ms > 500_000, "{told}");
    answers(&mut bob).await;
}

#[tokio::test]
async fn a_kick_ends_who_is_there_whatever_the_token_and_only_once() {
    let rig = Rig::start(2, |_| ()).await;
    let address = rig.address();
    let kicked = |kicked_ms| Kick {
        app_id: "demo".into(),
        user_id: "alice".into(),
        kicked_ms,
        ..Kick::default()
    };
    let now_ms = now() * 1000;
    // The app's clock is ahead, and the node's is behind.
    let mut alice = logged_in(address, &token_for("alice", 3, 60)).await;
    rig.world.kick(kicked(now_ms - 60_000));
    ends_with(&mut alice, ErrorCode::Kicked, 4003).await;
    let mut alice = logged_in(address, &token_for("alice", 3, 60)).await;
    rig.world.kick(kicked(now_ms - 59_999));
    ends_with(&mut alice, ErrorCode::Kicked, 4003).await;

    // The same kick once more, with a kick that tells us when it has been looked at.
    let mut alice = logged_in(address, &token_for("alice", 3, 60)).await;
    let mut bob = logged_in(address, &token_for("bob", 3, 60)).await;
    rig.world.kick(kicked(now_ms - 59_999));
    rig.world.kick(Kick {
        user_id: "bob".into(),
        ..kicked(now_ms)
    });
    ends_with(&mut bob, ErrorCode::Kicked, 4003).await;
    answers(&mut alice).await;
}

#[tokio::test]
async fn sessions_of_a_retired_secret_end_and_those_of_the_other_stay() {
    let rig = Rig::start(2, |_| ()).await;
    let address = rig.address();
    rig.world.change_app(|app| {
        app.secrets.push(AppSecret {
            secret_id: "2".into(),
            secret: "the next one".into(),
            format: TokenFormat::Jwt.into(),
        });
    });
    let next = Signer::new("demo", "the next one");
    support::eventually_async("the next secret is known", async || {
        let mut client = Client::connect(address, "parlance.v1").await;
        matches!(client.try_log_in(&next.token("bob")).await, Body::Login(_))
    })
    .await;
    let mut alice = Client::login(address, "alice").await;
    let mut carol = Client::login(address, "carol").await;
    let mut bob = logged_in(address, &next.token("bob")).await;
    assert!(matches!(
        renew(&mut carol, next.token("carol")).await,
        Body::Renew(_)
    ));
    rig.world.change_app(|app| drop(app.secrets.remove(0)));
    ends_with(&mut alice, ErrorCode::TokenInvalid, 4002).await;
    answers(&mut bob).await;
    answers(&mut carol).await;
    is_refused(address, &token("alice"), ErrorCode::TokenInvalid, 4002).await;
}

#[tokio::test]
async fn a_session_is_warned_and_ends_with_its_token_unless_it_is_renewed() {
    let rig = Rig::start(1, |_| ()).await;
    let address = rig.address();
    let ending = |user| token_for(user, -60, 2 - LEEWAY);
    let mut alice = logged_in(address, &ending("alice")).await;
    let mut bob = logged_in(address, &ending("bob")).await;
    for client in [&mut alice, &mut bob] {
        match client.next().await {
            Next::Frame(Body::TokenExpiring(notice)) => assert_eq!(notice.within_ms, 0),
            other => panic!("{other:?}"),
        }
    }
    // Somebody else's token is no renewal, and harms nobody.
    match renew(&mut alice, token("bob")).await {
        Body::Error(error) => assert_eq!(error.code(), ErrorCode::TokenInvalid),
        other => panic!("{other:?}"),
    }
    match renew(&mut alice, token("alice")).await {
        Body::Renew(renewed) => assert!(renewed.token_expires_ms > now() * 1000),
        other => panic!("{other:?}"),
    }
    ends_with(&mut bob, ErrorCode::TokenExpired, 4007).await;
    answers(&mut alice).await;
    is_refused(
        address,
        &token_for("bob", -60, -6),
        ErrorCode::TokenExpired,
        4002,
    )
    .await;
}

#[tokio::test]
async fn a_renewal_that_changes_nothing_is_not_warned_of_again() {
    let rig = Rig::start(1, |_| ()).await;
    let ending = token_for("alice", -60, 2 - LEEWAY);
    let mut alice = logged_in(rig.address(), &ending).await;
    assert!(matches!(
        alice.next().await,
        Next::Frame(Body::TokenExpiring(_))
    ));
    assert!(matches!(renew(&mut alice, ending).await, Body::Renew(_)));
    match alice.next().await {
        Next::Frame(Body::Error(error)) => assert_eq!(error.code(), ErrorCode::TokenExpired),
        other => panic!("{other:?}"),
    }
}
