//! Requests and pushes on their way over links: leaders change, links break, nodes say nothing or nonsense.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use parlance_proto::client::v1::server_frame::Body;
use parlance_proto::common::v1::ErrorCode;
use support::client::{Client, code, send_to, sent};
use support::{Rig, eventually};

const AB: &str = "d:5:alice:bob";

#[tokio::test]
async fn a_hint_leads_to_the_leader_and_a_new_leader_learns_the_topics() {
    let rig = Rig::start(2, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    rig.world.lead(2, false);
    assert_eq!(
        sent(alice.ask(send_to("bob", "m1", "by the hint")).await).seq,
        1
    );
    rig.world.lead(1, true);
    rig.world.set_seamless(false);
    rig.world.lead(2, true);
    eventually("the new leader has both topics", || {
        rig.world.completes(2).1 >= 2
    })
    .await;
    let mut resync = false;
    while !resync {
        resync = matches!(bob.frame().await.body, Some(Body::Resync(_)));
    }
    sent(alice.ask(send_to("bob", "m2", "after it")).await);
    while !matches!(bob.frame().await.body, Some(Body::Event(e)) if e.seq == 2) {}
}

#[tokio::test]
async fn a_short_break_resumes_and_a_long_one_sends_again() {
    let rig = Rig::start(1, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    rig.world.break_links(1, false);
    assert_eq!(
        sent(alice.ask(send_to("bob", "m1", "over the break")).await).seq,
        1
    );
    assert_eq!(rig.world.welcomes(), [false, true]);

    rig.world.set_deaf(1, true);
    alice
        .start(send_to("bob", "m2", "swallowed at first"))
        .await;
    eventually("the node got it", || rig.world.sends() >= 2).await;
    rig.world.set_deaf(1, false);
    rig.world.break_links(1, true);
    loop {
        let frame = alice.frame().await;
        if frame.request_id != 0 {
            assert_eq!(sent(frame.body.unwrap()).seq, 2);
            break;
        }
    }
    assert_eq!(rig.world.log(AB).len(), 2);
    assert_eq!(rig.world.welcomes(), [false, true, false]);
}

#[tokio::test]
async fn a_push_that_cannot_be_read_makes_clients_resync_and_the_link_goes_on() {
    let rig = Rig::start(1, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    rig.world.publish_nonsense();
    while !matches!(bob.frame().await.body, Some(Body::Resync(_))) {}
    assert_eq!(rig.world.welcomes(), [false, false]);
    sent(alice.ask(send_to("bob", "m1", "after it")).await);
    while !matches!(bob.frame().await.body, Some(Body::Event(e)) if e.seq == 1) {}
}

#[tokio::test]
async fn a_silent_leader_is_left_when_another_leads() {
    let rig = Rig::start(2, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    rig.world.set_deaf(1, true);
    alice.start(send_to("bob", "m1", "x")).await;
    eventually("the node got it", || rig.world.sends() == 1).await;
    rig.world.lead(2, true);
    assert_eq!(sent(alice.frame().await.body.unwrap()).seq, 1);
}

#[tokio::test]
async fn no_answer_in_time_is_an_unknown_outcome() {
    let rig = Rig::start(1, |c| c.limits.request_timeout_ms = 300).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    rig.world.set_deaf(1, true);
    assert_eq!(
        code(&alice.ask(send_to("bob", "m1", "x")).await),
        ErrorCode::OutcomeUnknown
    );
    rig.world.set_deaf(1, false);
    assert_eq!(sent(alice.ask(send_to("bob", "m1", "x")).await).seq, 1);
}

#[tokio::test]
async fn unanswered_requests_are_bounded_and_an_answer_makes_room() {
    let rig = Rig::start(1, |c| c.limits.requests_in_flight_max = 2).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    rig.world.hold(1);
    alice.start(send_to("bob", "m1", "x")).await;
    alice.start(send_to("bob", "m2", "x")).await;
    let third = alice.ask(send_to("bob", "m3", "x")).await;
    assert_eq!(code(&third), ErrorCode::Overloaded);
    rig.world.release();
    for seq in [1, 2] {
        assert_eq!(sent(alice.frame().await.body.unwrap()).seq, seq);
    }
    assert_eq!(sent(alice.ask(send_to("bob", "m3", "x")).await).seq, 3);
}
