//! A home that takes nothing, and others that do.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::ready;
use parlance_proto::ids::{AppId, UserId};
use parlance_proto::raft::v1::{
    RelayResponse, SnapshotChunk, SnapshotHeader, SnapshotResponse, peer_message::Body,
};
use parlance_proto::slot::SlotRange;
use parlance_proto::store::v1::{ClusterMap, Consumer, MapShard, SendCommand};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::outbox_reader::deliver_while_leading;
use super::super::under_way::UnderWay;
use super::*;
use crate::apply::tests::fixture::message;
use crate::link::Links;
use crate::meta::{Lead, MetaState};
use crate::raft::PeerError;
use crate::shard::tests::{Lone, say};
use crate::shard::{Marks, ProposerLimits, Shards};

pub(crate) const STUCK: ShardId = ShardId(1);
const OTHER: ShardId = ShardId(2);
const OWN_NODE: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);

/// A node whose shard [`STUCK`] takes nothing, until it is free.
#[derive(Default)]
pub(crate) struct Peers {
    pub(crate) free: AtomicBool,
    seen: Mutex<HashSet<(ShardId, Bytes)>>,
    /// Where the border of the shards is from the next call on.
    splits: Mutex<Option<(watch::Sender<Arc<MetaState>>, u32)>>,
    /// What was taken of [`STUCK`].
    pub(crate) taken: Mutex<HashSet<Bytes>>,
    /// What no home can write.
    unwritten: Mutex<HashSet<Bytes>>,
}

impl PeerLink for Peers {
    fn call(
        &self,
        _: NodeId,
        _: Lane,
        _: ShardId,
        body: Body,
        _: Duration,
    ) -> BoxFuture<'static, Result<Body, PeerError>> {
        let Body::Relay(request) = body else {
            panic!("only relays: {body:?}")
        };
        if let Some((meta, border)) = self.splits.lock().take() {
            meta.send_replace(Arc::new(state(border)));
        }
        let verdict = |relay: &ShardRelay| {
            let shard = ShardId(relay.shard);
            let items = relay.items.iter().map(|item| (shard, item.clone()));
            self.seen.lock().extend(items);
            let stuck = shard == STUCK && !self.free.load(Ordering::SeqCst);
            if shard == STUCK && !stuck {
                self.taken.lock().extend(relay.items.iter().cloned());
            }
            RelayVerdict {
                verdict: if stuck {
                    Verdict::NotLeader.into()
                } else {
                    Verdict::Done.into()
                },
                leader_node_id: 0,
                moved: stuck,
                left: {
                    let (unwritten, places) = (self.unwritten.lock(), (0..).zip(&relay.items));
                    let left = places.filter(|(_, item)| unwritten.contains(*item));
                    left.map(|(place, _)| place).collect()
                },
            }
        };
        let verdicts = request.shards.iter().map(verdict).collect();
        ready(Ok(Body::RelayResponse(RelayResponse { verdicts }))).boxed()
    }

    fn post(&self, _: NodeId, _: Lane, _: ShardId, _: Body) {}

    fn send_snapshot(
        &self,
        _: NodeId,
        _: SnapshotHeader,
        _: mpsc::Receiver<SnapshotChunk>,
    ) -> BoxFuture<'static, Result<SnapshotResponse, PeerError>> {
        panic!("no snapshots here")
    }
}

/// The lower slots are [`STUCK`]'s, the upper ones [`OTHER`]'s.
fn state(border: u32) -> MetaState {
    let ranges = [
        SlotRange::new(0, border).unwrap(),
        SlotRange::new(border + 1, 16_383).unwrap(),
    ];
    let shards = ranges.into_iter().zip(1..).map(|(range, shard)| MapShard {
        shard,
        first_slot: range.first().number().into(),
        last_slot: range.last().number().into(),
        ..MapShard::default()
    });
    let map = ClusterMap {
        shards: shards.collect(),
        ..ClusterMap::default()
    };
    MetaState::new(Some(map), BTreeMap::new())
}

const BORDER: u32 = 8_191;

fn item(shard: ShardId, number: u64) -> (Slot, Bytes) {
    let app = AppId::new("demo").unwrap();
    let users = (0..).map(|n| UserId::new(format!("user{n}")).unwrap());
    let slot = users
        .map(|user| Slot::of_user(&app, &user))
        .find(|slot| state(BORDER).shard_of(*slot) == Some(shard))
        .unwrap();
    (slot, Bytes::copy_from_slice(&number.to_be_bytes()))
}

pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        tokio::task::yield_now().await;
    }
}

pub(crate) struct Fixture {
    meta: watch::Sender<Arc<MetaState>>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) sender: RelaySender,
}

pub(crate) fn fixture(border: u32) -> Fixture {
    let meta = watch::Sender::new(Arc::new(state(border)));
    let leaders = Leaders::default();
    for shard in [STUCK, OTHER] {
        let node = Some(PEER);
        leaders.learn(shard, Lead { term: 1, node });
    }
    let receiver = RelayReceiver::new(Shards::default(), Links::new(1 << 30), leaders.clone());
    let peers = Arc::new(Peers::default());
    let sender = RelaySender::new(
        OWN_NODE,
        meta.subscribe(),
        leaders,
        peers.clone(),
        Arc::new(receiver),
    );
    Fixture {
        meta,
        peers,
        sender,
    }
}

fn under_way() -> (Arc<UnderWay>, Arc<Marks>) {
    let marks = Arc::new(Marks::default());
    let items = UnderWay::new(Consumer::Relay, 0, marks.clone(), &Arc::default());
    (items, marks)
}

#[tokio::test]
async fn a_stuck_shard_holds_up_no_other_shard_of_its_node() {
    let Fixture { peers, sender, .. } = &fixture(BORDER);
    let (stuck_items, stuck) = under_way();
    let (items, done) = under_way();
    for number in 0..5_000 {
        let (slot, item) = item(STUCK, number);
        let delivery = stuck_items.begin(1, 8).remove(0);
        sender.send(slot, item, delivery).await;
    }
    eventually("what is too much is set aside", || {
        stuck_items
            .aside()
            .first()
            .is_some_and(|(home, aside)| *home == STUCK && aside.last == 5_000)
    })
    .await;
    let delivery = items.begin(1, 8).remove(0);
    let (slot, item) = item(OTHER, 5_000);
    sender.send(slot, item, delivery).await;
    eventually("the other shard's item", || done.get(Consumer::Relay) == 1).await;
    assert_eq!(stuck.get(Consumer::Relay), 0);

    let kept = stuck_items.aside()[0].1.first - 1;
    peers.free.store(true, Ordering::SeqCst);
    eventually("what was kept", || stuck.get(Consumer::Relay) == kept).await;
    eventually("it is stuck no more", || !sender.is_parked(STUCK)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_takes_nothing_for_long_holds_up_no_other_and_gets_all_of_it_later() {
    const MESSAGES: u64 = 3_000;
    // Nearly all users are at home in the shard that is stuck.
    let Fixture { peers, sender, .. } = fixture(16_382);
    let lone = Lone::founded(ProposerLimits::default()).await;
    let shard = lone.shard.clone();
    let (sender, stop) = (Arc::new(sender), CancellationToken::new());
    let delivery = deliver_while_leading(shard.clone(), sender.clone(), stop.clone());
    let delivery = tokio::spawn(delivery);
    let ids: Vec<String> = (0..MESSAGES).map(|n| format!("m{n}")).collect();
    for ids in ids.chunks(100) {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        shard.run(say(&ids)).await.unwrap();
    }
    eventually("its home is parked", || sender.is_parked(STUCK)).await;
    let relayed = || shard.marks().get(Consumer::Relay);
    assert!(relayed() < MESSAGES);
    peers.free.store(true, Ordering::SeqCst);
    eventually("all are relayed", || relayed() == MESSAGES).await;
    let both_users = 2 * usize::try_from(MESSAGES).unwrap();
    assert_eq!(peers.taken.lock().len(), both_users);
    stop.cancel();
    delivery.await.unwrap();
    lone.stop().await;
}

/// Of one conversation, whose two users are at home in different shards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_home_holds_up_no_other_however_many_shards_a_node_leads() {
    const MESSAGES: usize = 3_000;
    let app = AppId::new("demo").unwrap();
    let slots = ["alice", "bob"].map(|user| Slot::of_user(&app, &UserId::new(user).unwrap()));
    let border = u32::from(slots[0].min(slots[1]).number());
    let Fixture { peers, sender, .. } = fixture(border);
    let lone = Lone::founded(ProposerLimits::default()).await;
    let shard = lone.shard.clone();
    let (sender, stop) = (Arc::new(sender), CancellationToken::new());
    let _other_shards: Vec<_> = (1..128).map(|_| sender.budget().share()).collect();
    let delivery = deliver_while_leading(shard.clone(), sender.clone(), stop.clone());
    let delivery = tokio::spawn(delivery);
    let ids: Vec<String> = (0..MESSAGES).map(|n| format!("m{n}")).collect();
    let text = "x".repeat(300);
    for ids in ids.chunks(100) {
        let messages = ids.iter().map(|id| message(id, &text)).collect();
        let said = SendCommand {
            messages,
            ..say(&[])
        };
        shard.run(said).await.unwrap();
    }
    let seen_by_other = || {
        let seen = peers.seen.lock();
        seen.iter().filter(|(home, _)| *home == OTHER).count()
    };
    eventually("the other user has all", || seen_by_other() == MESSAGES).await;
    assert!(shard.marks().get(Consumer::Relay) < MESSAGES as u64);
    peers.free.store(true, Ordering::SeqCst);
    eventually("the user of the stuck home has all", || {
        peers.taken.lock().len() == MESSAGES
    })
    .await;
    stop.cancel();
    delivery.await.unwrap();
    lone.stop().await;
}

#[tokio::test]
async fn what_has_moved_goes_to_the_shard_that_the_map_says_later() {
    let Fixture {
        meta,
        peers,
        sender,
    } = &fixture(BORDER);
    let (items, done) = under_way();
    let (slot, item) = item(STUCK, 1);
    let sent = (STUCK, item.clone());
    sender.send(slot, item, items.begin(1, 8).remove(0)).await;
    eventually("its first try", || peers.seen.lock().contains(&sent)).await;
    meta.send_replace(Arc::new(state(0)));
    eventually("its delivery", || done.get(Consumer::Relay) == 1).await;
    assert!(peers.seen.lock().contains(&(OTHER, sent.1.clone())));
}

#[tokio::test]
async fn what_is_set_aside_just_after_a_split_is_still_for_its_users() {
    let Fixture {
        meta,
        peers,
        sender,
    } = &fixture(BORDER);
    *peers.splits.lock() = Some((meta.clone(), 0));
    let (items, _) = under_way();
    let (slot, _) = item(STUCK, 1);
    // More than waits in memory, in one batch.
    let large = Bytes::from(vec![0; 300 * 1024]);
    for _ in 0..2 {
        let delivery = items.begin(1, large.len()).remove(0);
        sender.send(slot, large.clone(), delivery).await;
    }
    eventually("the second is set aside", || !items.aside().is_empty()).await;
    let aside = items.aside();
    assert!(aside[0].1.slots.contains(slot), "{aside:?}");
}

#[tokio::test]
async fn what_a_home_cannot_write_holds_up_nothing_else_of_that_home() {
    let Fixture { peers, sender, .. } = &fixture(BORDER);
    let (unwritten_items, unwritten) = under_way();
    let (items, done) = under_way();
    // More than is tried at a time.
    const UNWRITTEN: u64 = 1_500;
    const OTHERS: u64 = 3_000;
    for number in 0..UNWRITTEN + OTHERS {
        let (slot, item) = item(OTHER, number);
        let of = if number < UNWRITTEN {
            peers.unwritten.lock().insert(item.clone());
            &unwritten_items
        } else {
            &items
        };
        sender.send(slot, item, of.begin(1, 8).remove(0)).await;
    }
    eventually("all others", || done.get(Consumer::Relay) == OTHERS).await;
    assert_eq!(unwritten.get(Consumer::Relay), 0);
    peers.unwritten.lock().clear();
    let kept = unwritten_items.aside()[0].1.first - 1;
    eventually("what was kept", || unwritten.get(Consumer::Relay) == kept).await;
    eventually("the rest may come again", || !sender.is_parked(OTHER)).await;
}
