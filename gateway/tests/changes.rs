//! The gateway while the cluster changes under it: shards are split, leaders change, links are lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use parlance_proto::client::v1::{
    ConversationsRequest, HistoryRequest, client_frame, history_request, server_frame::Body,
};
use parlance_proto::common::v1::ErrorCode;
use parlance_proto::link::v1::Kick;
use parlance_proto::slot::SLOTS;
use support::client::{Client, Next, send_to};
use support::{Rig, eventually};

const AB: &str = "d:5:alice:bob";

/// Sends are under way, one batch of them with the old leader, while their shard is split.
async fn messages_through_a_split(told: bool) {
    let rig = Rig::start(2, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    // What the old leader has stored is not answered before the split.
    rig.world.hold(1);
    for i in 0..50 {
        alice.start(send_to("bob", &format!("m{i}"), "x")).await;
    }
    eventually("a batch is with the shard", || rig.world.held() > 0).await;
    rig.world.split(rig.world.slot_of_conversation(AB), 2, told);
    for i in 50..100 {
        alice.start(send_to("bob", &format!("m{i}"), "x")).await;
    }
    rig.world.release();
    for i in 1..=100 {
        match alice.frame().await.body {
            Some(Body::Send(sent)) => assert_eq!((sent.seq, sent.duplicate), (i, false)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.world.log(AB).len(), 100, "neither lost nor doubled");
    for i in 1..=100 {
        match bob.frame().await.body {
            Some(Body::Event(event)) => assert_eq!(event.seq, i),
            other => panic!("{other:?}"),
        }
    }
    let target = Some(history_request::Target::WithUser("bob".into()));
    let history = HistoryRequest {
        target,
        ..HistoryRequest::default()
    };
    let history = alice.ask(client_frame::Body::History(history)).await;
    assert!(matches!(history, Body::History(h) if h.head_seq == 100));
}

#[tokio::test]
async fn a_split_that_the_shard_tells_of_keeps_order_and_loses_nothing() {
    messages_through_a_split(false).await;
}

#[tokio::test]
async fn a_split_that_the_map_tells_of_keeps_order_and_loses_nothing() {
    messages_through_a_split(true).await;
}

#[tokio::test]
async fn users_whose_home_is_split_are_subscribed_at_the_child_and_others_are_left_alone() {
    let rig = Rig::start(2, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    let before = rig.world.completes(1).0;
    rig.world.split(rig.world.slot_of_user("bob"), 2, true);
    eventually("bob's new home knows him", || {
        rig.world.is_subscribed("bob")
    })
    .await;
    assert_eq!(
        rig.world.completes(1).0,
        before,
        "no other shard is told anew"
    );
    alice.ask(send_to("bob", "m1", "after it")).await;
    match bob.frame().await.body {
        Some(Body::Event(event)) => assert_eq!(event.seq, 1),
        other => panic!("not even a resync: {other:?}"),
    }
}

#[tokio::test]
async fn a_login_at_a_shard_that_was_split_unheard_leaves_others_alone() {
    let rig = Rig::start(2, |_| ()).await;
    let [stayer, mover, late] = one_shard(&rig);
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut stays = Client::login(rig.address(), &stayer).await;
    let before = rig.world.completes(1).0;
    rig.world.split(rig.world.slot_of_user(&mover), 2, false);
    let _moved = Client::login(rig.address(), &mover).await;
    assert!(rig.world.is_subscribed(&mover));
    let _late = Client::login(rig.address(), &late).await;
    assert_eq!(
        rig.world.completes(1).0,
        before,
        "the parent is not told anew"
    );
    alice.ask(send_to(&stayer, "m1", "after it")).await;
    match stays.frame().await.body {
        Some(Body::Event(event)) => assert_eq!(event.seq, 1),
        other => panic!("not even a resync: {other:?}"),
    }
}

/// Users whose home is one shard: when it is split, the second one's is the other half.
fn one_shard(rig: &Rig) -> [String; 3] {
    let half = |user: &String| rig.world.slot_of_user(user).number() / (SLOTS / 8);
    let users = || (1..).map(|n| format!("user-{n}"));
    let first = "user-0".to_owned();
    let other = users().find(|user| half(user) == half(&first) ^ 1);
    let same = users().find(|user| half(user) == half(&first));
    [first, other.unwrap(), same.unwrap()]
}

#[tokio::test]
async fn the_conversation_list_is_whole_although_a_shard_was_split_unheard() {
    let rig = Rig::start(2, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    for peer in 0..20 {
        alice.ask(send_to(&format!("peer-{peer}"), "m1", "x")).await;
    }
    let first = rig.world.slot_of_conversation("d:5:alice:peer-1");
    rig.world.split(first, 2, false);
    let list = client_frame::Body::Conversations(ConversationsRequest::default());
    match alice.ask(list).await {
        Body::Conversations(page) => {
            assert_eq!(page.conversations.len(), 20);
            assert!(page.conversations.iter().all(|c| c.head_seq == 1));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_leader_behind_a_lost_link_may_have_had_is_resynced_whoever_leads_next() {
    let rig = Rig::start(2, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    rig.world.cut(1);
    // It goes on leading for a while: what it takes for bob is given up.
    alice.start(send_to("bob", "m1", "after all")).await;
    rig.world.lead(2, true);
    eventually("the new leader knows bob", || {
        rig.world.is_subscribed("bob")
    })
    .await;
    assert!(rig.world.completes(2).0 > 0);
    // The new leader says that it has taken nothing before. That does not speak for the old one.
    while !matches!(bob.frame().await.body, Some(Body::Resync(_))) {}
}

#[tokio::test]
async fn a_subscription_of_an_old_term_is_made_again_in_the_new_one() {
    let rig = Rig::start(2, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut bob = Client::login(rig.address(), "bob").await;
    // All four shards' new leader answers for the term before first, and forgets.
    rig.world.set_stale(4);
    rig.world.lead(2, true);
    eventually("both are subscribed in the new term", || {
        rig.world.is_subscribed("alice") && rig.world.is_subscribed("bob")
    })
    .await;
    alice.ask(send_to("bob", "m1", "x")).await;
    while !matches!(bob.frame().await.body, Some(Body::Event(e)) if e.seq == 1) {}
}

#[tokio::test]
async fn what_the_leader_of_a_term_that_nobody_told_of_may_have_had_is_resynced() {
    let rig = Rig::start(2, |_| ()).await;
    let mut bob = Client::login(rig.address(), "bob").await;
    // A leader that the gateway never heard of, and then the one that it knows again, over a link that always was well.
    rig.world.lead(2, false);
    rig.world.lead(1, true);
    eventually("bob is subscribed in the newest term", || {
        rig.world.is_subscribed("bob")
    })
    .await;
    // It says that it has taken nothing before. That does not speak for the one in between.
    while !matches!(bob.frame().await.body, Some(Body::Resync(_))) {}
}

#[tokio::test]
async fn a_list_comes_although_a_shard_has_no_majority_and_says_whose_heads_are_unknown() {
    let rig = Rig::start(2, |config| config.limits.request_timeout_ms = 500).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let peers: Vec<String> = (0..20).map(|n| format!("peer-{n}")).collect();
    for peer in &peers {
        alice.ask(send_to(peer, "m1", "x")).await;
    }
    let home = rig.world.shard_of(rig.world.slot_of_user("alice"));
    let shard = |conversation: &str| {
        let slot = rig.world.slot_of_conversation(conversation);
        rig.world.shard_of(slot)
    };
    let id = |peer: &String| format!("d:5:alice:{peer}");
    let lost = peers.iter().map(id).map(|id| shard(&id));
    let lost = lost.clone().find(|shard| *shard != home).unwrap();
    let slot = peers.iter().map(id).find(|id| shard(id) == lost).unwrap();
    rig.world.lose(rig.world.slot_of_conversation(&slot));
    let list = client_frame::Body::Conversations(ConversationsRequest::default());
    let Body::Conversations(page) = alice.ask(list).await else {
        panic!("no list")
    };
    assert_eq!(page.conversations.len(), peers.len());
    for conversation in page.conversations {
        let unknown = shard(&conversation.conversation_id) == lost;
        assert_eq!(conversation.head_unknown, unknown);
        assert_eq!(conversation.head_seq, u64::from(!unknown));
        if unknown {
            assert!(peers.contains(&conversation.peer));
        }
    }
}

/// Each step of the page meets another shard that is silent.
#[tokio::test]
async fn a_page_waits_for_silent_shards_once_and_not_in_every_step() {
    let rig = Rig::start(2, |config| config.limits.request_timeout_ms = 1000).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let well = rig.world.shard_of(rig.world.slot_of_user("alice"));
    let lost: Vec<u32> = (1..=4).filter(|shard| *shard != well).collect();
    // First two conversations, of which one is large, then three, then what is left: in the order of their ids.
    let wanted = [
        lost[0], well, lost[1], lost[1], lost[1], lost[2], lost[2], lost[2],
    ];
    let mut names = (100..).map(|number| format!("p{number}"));
    let mut conversations = Vec::new();
    for shard in wanted {
        let is_there = |peer: &String| {
            let slot = rig.world.slot_of_conversation(&format!("d:5:alice:{peer}"));
            rig.world.shard_of(slot) == shard
        };
        let peer = names.find(is_there).unwrap();
        let text = if shard == well {
            "x".repeat(2000)
        } else {
            "x".into()
        };
        let sent = alice.ask(send_to(&peer, "m1", &text)).await;
        assert!(matches!(sent, Body::Send(_)), "{sent:?}");
        conversations.push((format!("d:5:alice:{peer}"), shard != well));
    }
    for (conversation, is_lost) in &conversations {
        if *is_lost {
            rig.world.lose(rig.world.slot_of_conversation(conversation));
        }
    }
    let (mut after, mut pages, mut listed) = (String::new(), 0, Vec::new());
    loop {
        let list = client_frame::Body::Conversations(ConversationsRequest {
            after,
            max_bytes: 2 * 3072,
            ..ConversationsRequest::default()
        });
        let Body::Conversations(page) = alice.ask(list).await else {
            panic!("no list")
        };
        assert!(!page.conversations.is_empty());
        pages += 1;
        let page_of = page.conversations.into_iter();
        listed.extend(page_of.map(|c| (c.conversation_id, c.head_unknown)));
        after = page.next_after;
        if after.is_empty() {
            break;
        }
    }
    assert_eq!(listed, conversations);
    assert!(pages > 1, "it waited for one shard after the other");
}

/// A send would wait for its whole time, with all behind it, for a node that has said when it will take one.
#[tokio::test]
async fn a_full_disk_that_nobody_takes_the_place_of_is_told_long_before_a_request_times_out() {
    let rig = Rig::start(2, |config| config.limits.request_timeout_ms = 60_000).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    rig.world.set_full(1);
    let Body::Error(error) = alice.ask(send_to("bob", "m1", "x")).await else {
        panic!("no refusal")
    };
    assert_eq!(error.code(), ErrorCode::Overloaded);
    assert_eq!(error.retry_after_ms, 2000);
    // It has handed over since.
    rig.world.lead(2, true);
    let Body::Send(sent) = alice.ask(send_to("bob", "m1", "x")).await else {
        panic!("not stored")
    };
    assert_eq!((sent.seq, sent.duplicate), (1, false));
}

/// A node that is replaced leads until others have what it has, or may be elected once more before it is gone.
#[tokio::test]
async fn a_replaced_node_that_leads_is_asked_until_another_does() {
    let rig = Rig::start(2, |_| ()).await;
    let mut alice = Client::login(rig.address(), "alice").await;
    let mut carol = Client::login(rig.address(), "carol").await;
    rig.world.replace(1);
    rig.world.kick(Kick {
        app_id: "demo".into(),
        user_id: "carol".into(),
        kicked_ms: 1 << 60,
        ..Kick::default()
    });
    // What was told after it is known, so it is known too.
    while !matches!(carol.next().await, Next::Closed(_)) {}
    for (leader, seq) in [(1, 1), (2, 2)] {
        rig.world.lead(leader, true);
        let message = send_to("bob", &format!("m{seq}"), "x");
        let Body::Send(sent) = alice.ask(message).await else {
            panic!("not stored")
        };
        assert_eq!(sent.seq, seq);
    }
}
