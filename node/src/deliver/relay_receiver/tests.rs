//! A home shard with one replica, and a link that has its users.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use parlance_proto::ids::{AppId, UserId};
use parlance_proto::link::v1::{Publish, Topic, topic};
use parlance_proto::raft::v1::RelayItem;
use parlance_proto::store::v1::{Command, TouchConversationCommand, command::Body};
use prost::Message;

use super::super::list_entries::READS_MAX;
use super::super::relay_sender::tests::eventually;
use super::*;
use crate::link::{LinkSession, open_and_closed};
use crate::raft::tests::fixture::ONE;
use crate::shard::ProposerLimits;
use crate::shard::tests::{Lone, say};
use crate::store::key::ListKeys;
use crate::store::{StateStore, Table, WriteBatch};

const USER: &str = "alice";
const CHAT: &str = "d:5:alice:bob";
const OTHER_CHAT: &str = "d:5:alice:carl";

struct Home {
    lone: Lone,
    receiver: RelayReceiver,
    link: Arc<LinkSession>,
}

impl Home {
    async fn start() -> Self {
        let lone = Lone::founded(ProposerLimits::default()).await;
        let (shards, links) = (Shards::default(), Links::new(1 << 30));
        shards.insert(lone.shard.clone());
        let [link, _] = open_and_closed();
        let topic = (AppId::new("demo").unwrap(), UserId::new(USER).unwrap());
        let term = lone.shard.raft().term();
        lone.shard
            .subscriptions()
            .subscribe(term, &link, vec![topic], true);
        Self {
            receiver: RelayReceiver::new(shards, links, Leaders::default()),
            lone,
            link,
        }
    }

    /// Relays items: the conversation of each, and what is pushed.
    async fn relay(&self, items: &[(&str, u8)]) -> RelayVerdict {
        let items = items.iter().map(|(conversation, frame)| {
            let topic = Topic {
                app_id: "demo".into(),
                name: Some(topic::Name::UserId(USER.into())),
            };
            let publish = Publish {
                topic: Some(topic),
                frame: vec![*frame].into(),
                ..Publish::default()
            };
            let item = RelayItem {
                conversation_id: (*conversation).into(),
                publish: publish.encode_to_vec().into(),
            };
            item.encode_to_vec().into()
        });
        let relay = ShardRelay {
            shard: ONE.0,
            items: items.collect(),
        };
        let request = RelayRequest {
            shards: vec![relay],
        };
        self.receiver.receive(request).await.verdicts.remove(0)
    }

    /// What was pushed, in order.
    fn pushed(&self) -> Vec<u8> {
        let publishes = self.link.publishes().into_iter();
        let frames = publishes.map(|publish| Publish::decode(publish).unwrap().frame);
        frames.map(|frame| frame[0]).collect()
    }
}

fn done(left: &[u32]) -> RelayVerdict {
    RelayVerdict {
        left: left.to_vec(),
        ..verdict(Verdict::Done, None)
    }
}

fn touch_of(conversation: &str) -> TouchConversationCommand {
    TouchConversationCommand {
        app_id: "demo".into(),
        user_id: USER.into(),
        conversation_id: conversation.into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_delays_only_what_has_to_be_written_into_lists() {
    let home = Home::start().await;
    assert_eq!(home.relay(&[(CHAT, 1)]).await, done(&[]));
    let room = home.lone.shard.raft().room();
    room.is_free(room.reserve_bytes() - 1);
    let items = [(OTHER_CHAT, 2), (CHAT, 3), (OTHER_CHAT, 4), (CHAT, 5)];
    assert_eq!(home.relay(&items).await, done(&[0, 2]));
    assert_eq!(home.pushed(), [1, 3, 5]);
    room.is_free(u64::MAX);
    assert_eq!(
        home.relay(&[(OTHER_CHAT, 2), (OTHER_CHAT, 4)]).await,
        done(&[])
    );
    assert_eq!(home.pushed(), [1, 3, 5, 2, 4]);
    home.lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_written_for_many_relays_together_and_all_is_pushed_in_its_order() {
    const RELAYS: u8 = 20;
    let home = Home::start().await;
    let shard = &home.lone.shard;
    assert_eq!(home.relay(&[(CHAT, 100)]).await, done(&[]));

    // The shard's rows are being written, and that takes long.
    let (release, held) = mpsc::sync_channel(1);
    *home.lone.store.held.lock() = Some(held);
    let said = say(&["m1"]);
    let saying = shard.run(said);
    let entries = || shard.raft().status().last_log_index;
    let before = entries();
    let meanwhile = async {
        eventually("rows are written", || {
            home.lone.store.holds.load(Ordering::SeqCst)
        })
        .await;
        let chats: Vec<String> = (0..RELAYS).map(|n| format!("d:5:alice:user{n}")).collect();
        let bytes = |chat: &String| {
            let body = Body::TouchConversation(touch_of(chat));
            Command { body: Some(body) }.encoded_len()
        };
        let all: usize = chats.iter().map(bytes).sum();
        // Of each chat two items, one behind the other, in relays of their own.
        let relays = chats.iter().zip(0..).map(async |(chat, n)| {
            let second = async {
                eventually("the first of the two waits", || {
                    home.lone.queues.used() >= all
                })
                .await;
                home.relay(&[(chat, RELAYS + n)]).await
            };
            let first = async { home.relay(&[(chat, n)]).await };
            let (first, second) = join(first, second).await;
            assert_eq!((first, second), (done(&[]), done(&[])));
        });
        let watching = async {
            let in_line = || shard.push_order().in_line();
            eventually("both of all wait", || in_line() == 2 * usize::from(RELAYS)).await;
            assert_eq!(home.relay(&[(CHAT, 101)]).await, done(&[]));
            assert!(home.lone.queues.used() < 2 * all, "each is written once");
            assert_eq!(home.pushed(), [100, 101], "this one needs no write");
            release.send(()).unwrap();
        };
        join(join_all(relays), watching).await;
    };
    let (said, ()) = join(saying, meanwhile).await;
    said.unwrap();
    assert_eq!(
        entries(),
        before + 2,
        "what was being written, and all that waited"
    );
    let pushed = home.pushed();
    assert_eq!(pushed.len(), 2 + 2 * usize::from(RELAYS));
    let place = |frame| pushed.iter().position(|pushed| *pushed == frame).unwrap();
    for n in 0..RELAYS {
        assert!(place(n) < place(RELAYS + n), "{n}: {pushed:?}");
    }
    home.lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_gives_no_list_back_delays_only_what_has_to_be_looked_up() {
    const RELAYS: usize = 3 * READS_MAX;
    let home = Home::start().await;
    assert_eq!(home.relay(&[(CHAT, 1)]).await, done(&[]));
    let store = &home.lone.store;
    store.lists_fail.store(1, Ordering::SeqCst);
    let items = [(OTHER_CHAT, 2), (CHAT, 3)];
    assert_eq!(home.relay(&items).await, done(&[0]));

    store.lists_hang.store(true, Ordering::SeqCst);
    let chats: Vec<String> = (0..RELAYS).map(|n| format!("d:5:alice:user{n}")).collect();
    let relays = chats.iter();
    let relays = relays.map(async |chat| home.relay(&[(chat, 2), (CHAT, 4)]).await);
    for verdict in join_all(relays).await {
        assert_eq!(verdict, done(&[0]));
    }
    let hanging = store.lists_hanging.load(Ordering::SeqCst);
    assert_eq!(usize::try_from(hanging).unwrap(), READS_MAX);
    store.lists_hang.store(false, Ordering::SeqCst);
    assert_eq!(home.relay(&[(OTHER_CHAT, 2)]).await, done(&[]));
    let pushed = [vec![1, 3], vec![4; RELAYS], vec![2]].concat();
    assert_eq!(home.pushed(), pushed);
    home.lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_row_that_is_damaged_stops_the_replica() {
    let home = Home::start().await;
    let (app, user) = (AppId::new("demo").unwrap(), UserId::new(USER).unwrap());
    let keys = ListKeys::new(Slot::of_user(&app, &user), &app, &user);
    let mut damage = WriteBatch::default();
    for key in [keys.list(), keys.entry(CHAT)] {
        damage.put(Table::Users, key, vec![0xff; 3]);
    }
    home.lone.store.write(&damage).unwrap();
    let refused = home.relay(&[(CHAT, 1)]).await;
    assert_eq!(refused, verdict(Verdict::NotLeader, None));
    let raft = home.lone.shard.raft();
    eventually("it stops", || raft.status().stopped.is_some()).await;
    assert!(home.pushed().is_empty());
    home.lone.stop().await;
}
