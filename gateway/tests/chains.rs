//! Several sends of one conversation on their way: whatever is refused, nothing overtakes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use parlance_proto::client::v1::{SendRequest, client_frame, event, server_frame::Body};
use parlance_proto::common::v1::ErrorCode;
use support::Rig;
use support::client::{Client, send_to};

const AB: &str = "d:5:alice:bob";

/// A send to bob that comes behind another.
fn behind(after: &str, id: &str) -> client_frame::Body {
    match send_to("bob", id, id) {
        client_frame::Body::Send(send) => client_frame::Body::Send(SendRequest {
            after: after.into(),
            ..send
        }),
        other => other,
    }
}

/// The seq, or the error's code and field.
fn outcome(answer: Option<Body>) -> Result<u64, (ErrorCode, String)> {
    match answer {
        Some(Body::Send(sent)) => Ok(sent.seq),
        Some(Body::Error(error)) => Err((error.code(), error.field)),
        other => panic!("{other:?}"),
    }
}

fn refused() -> Result<u64, (ErrorCode, String)> {
    Err((ErrorCode::Unavailable, "send.after".into()))
}

fn stored(rig: &Rig) -> Vec<String> {
    let log = rig.world.log(AB).into_iter();
    log.map(|event| match event.body {
        Some(event::Body::Message(message)) => message.client_message_id,
        other => panic!("{other:?}"),
    })
    .collect()
}

async fn ask(client: &mut Client, body: client_frame::Body) -> Result<u64, (ErrorCode, String)> {
    outcome(Some(client.ask(body).await))
}

#[tokio::test]
async fn what_comes_behind_a_send_that_was_not_stored_in_time_is_refused_until_that_one_comes_again()
 {
    let rig = Rig::start(1, |c| c.limits.request_timeout_ms = 300).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    rig.world.set_deaf(1, true);
    let lost = ask(&mut alice, behind("", "1")).await;
    assert_eq!(lost, Err((ErrorCode::OutcomeUnknown, String::new())));
    rig.world.set_deaf(1, false);
    // These were on their way before the client heard of it.
    assert_eq!(ask(&mut alice, behind("1", "2")).await, refused());
    assert_eq!(ask(&mut alice, behind("2", "3")).await, refused());
    // Another conversation is none of theirs.
    let other = ask(&mut alice, send_to("carol", "1", "x")).await;
    assert_eq!(other, Ok(1));
    alice.start(behind("", "1")).await;
    alice.start(behind("1", "2")).await;
    alice.start(behind("2", "3")).await;
    for seq in 1..=3 {
        assert_eq!(outcome(alice.frame().await.body), Ok(seq));
    }
    assert_eq!(ask(&mut alice, behind("", "4")).await, Ok(4));
    assert_eq!(stored(&rig), ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn what_comes_behind_a_send_that_found_no_room_is_refused_too() {
    let rig = Rig::start(1, |c| c.limits.requests_in_flight_max = 2).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    rig.world.hold(1);
    alice.start(behind("", "1")).await;
    alice.start(behind("1", "2")).await;
    let full = ask(&mut alice, behind("2", "3")).await;
    assert_eq!(full, Err((ErrorCode::Overloaded, String::new())));
    rig.world.release();
    for seq in 1..=2 {
        assert_eq!(outcome(alice.frame().await.body), Ok(seq));
    }
    assert_eq!(ask(&mut alice, behind("3", "4")).await, refused());
    assert_eq!(ask(&mut alice, behind("", "3")).await, Ok(3));
    assert_eq!(ask(&mut alice, behind("3", "4")).await, Ok(4));
    assert_eq!(stored(&rig), ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_send_that_is_refused_for_good_holds_up_nobody() {
    let rig = Rig::start(1, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    assert_eq!(ask(&mut alice, behind("", "1")).await, Ok(1));
    let mut other = behind("", "1");
    if let client_frame::Body::Send(send) = &mut other {
        send.content = Some(parlance_proto::client::v1::Content { kind: None });
    }
    alice.start(other).await;
    alice.start(behind("1", "2")).await;
    let invalid = Err((ErrorCode::InvalidArgument, "send.content".into()));
    let mut answers = vec![
        outcome(alice.frame().await.body),
        outcome(alice.frame().await.body),
    ];
    answers.sort_by_key(Result::is_ok);
    assert_eq!(answers, [invalid, Ok(2)]);
    let long = "x".repeat(65);
    let bad = ask(&mut alice, behind(&long, "3")).await;
    assert_eq!(bad, Err((ErrorCode::InvalidArgument, "send.after".into())));
    assert_eq!(stored(&rig), ["1", "2"]);
}
