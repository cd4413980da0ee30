//! Carries relay items of all shards that this node leads to the leaders of home shards, in batches, until done.
//!
//! One lane a node: what gathers while a batch is sent goes as the next one, whatever its shards. Batches of a lane are
//! sent in order and may be under way at once, since each is answered only when the gateways have it. Which shard an item
//! goes to is asked of the cluster map at each try, since a split may have moved its user.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{RelayRequest, RelayVerdict, ShardRelay, relay_verdict::Verdict};
use parlance_proto::slot::Slot;
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep, timeout};

use super::budget::Budget;
use super::relay_receiver::RelayReceiver;
use super::under_way::Delivery;
use crate::meta::{Leaders, MetaWatch};
use crate::metrics;
use crate::raft::{Lane, PeerLink, ask};

/// Items that wait in one lane.
const LANE_ITEMS_MAX: usize = 16 * 1024;
/// Items of one lane under way: each waits for gateways to acknowledge, or for a shard that has no leader.
const UNDER_WAY_ITEMS_MAX: usize = 64 * 1024;
/// Items of one batch.
const BATCH_ITEMS_MAX: usize = 1024;
/// How long a batch may wait for its answer: longer than [`super::relay_receiver`] takes for one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Between the first tries of what was not taken.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
/// Between later ones: it doubles up to this.
const RETRY_DELAY_MAX: Duration = Duration::from_millis(800);

/// An item, its user's slot and its place in the outbox.
struct Queued {
    slot: Slot,
    /// Encoded.
    item: Bytes,
    delivery: Delivery,
}

/// What is to be tried again.
struct Left {
    queued: Vec<Queued>,
    /// The shard and the node that may lead it, as the last one asked said.
    hint: Option<(ShardId, NodeId)>,
    delay: Duration,
}

/// What a try came to.
#[derive(Default)]
struct Tried {
    /// Items that are done, or that nobody wants any more.
    done: usize,
    left: Vec<Left>,
}

/// Items by the node that leads their shards, and there by shard, each in the order they came.
type ByLeader = BTreeMap<Option<NodeId>, BTreeMap<ShardId, Vec<Queued>>>;

/// Sends relays to home shards, for all shards of this node.
pub struct RelaySender {
    lanes: Mutex<HashMap<Option<NodeId>, mpsc::Sender<Queued>>>,
    route: Arc<Route>,
    budget: Arc<Budget>,
}

struct Route {
    node_id: NodeId,
    meta: MetaWatch,
    leaders: Leaders,
    peers: Arc<dyn PeerLink>,
    receiver: Arc<RelayReceiver>,
}

impl RelaySender {
    /// Lanes start with their first item.
    pub fn new(
        node_id: NodeId,
        meta: MetaWatch,
        leaders: Leaders,
        peers: Arc<dyn PeerLink>,
        receiver: Arc<RelayReceiver>,
    ) -> Self {
        let route = Arc::new(Route {
            node_id,
            meta,
            leaders,
            peers,
            receiver,
        });
        Self {
            lanes: Mutex::default(),
            route,
            budget: Arc::default(),
        }
    }

    /// What may be under way.
    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Queues an encoded `RelayItem` for its user's home shard; waits while the lane is full.
    pub(super) async fn send(&self, slot: Slot, item: Bytes, delivery: Delivery) {
        // Items of shards without a known leader have a lane of their own.
        let leader = self.route.leaders.of(self.route.shard_of(slot));
        let lane = self.lane(leader);
        let queued = Queued {
            slot,
            item,
            delivery,
        };
        // A lane ends only with the node.
        let _ = lane.send(queued).await;
    }

    fn lane(&self, to: Option<NodeId>) -> mpsc::Sender<Queued> {
        let start = || {
            let (sender, receiver) = mpsc::channel(LANE_ITEMS_MAX);
            tokio::spawn(run_lane(self.route.clone(), receiver));
            sender
        };
        self.lanes.lock().entry(to).or_insert_with(start).clone()
    }
}

async fn run_lane(route: Arc<Route>, mut receiver: mpsc::Receiver<Queued>) {
    let mut tries: FuturesUnordered<BoxFuture<'_, Tried>> = FuturesUnordered::new();
    let mut under_way = 0;
    loop {
        let room = under_way < UNDER_WAY_ITEMS_MAX;
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            Some(tried) = tries.next() => {
                under_way -= tried.done;
                // From here on each shard is on its own: one that is stuck holds up no other.
                for left in tried.left {
                    tries.push(route.try_again(left).boxed());
                }
            }
            count = receiver.recv_many(&mut batch, BATCH_ITEMS_MAX), if room => {
                if count == 0 {
                    return;
                }
                under_way += count;
                for (leader, shards) in route.by_leader(batch, None) {
                    tries.push(route.try_deliver(leader, shards, RETRY_DELAY_MIN).boxed());
                }
            }
        }
    }
}

impl Route {
    /// The shard that owns a slot; the meta shard, which takes no relays, before the cluster map is known.
    fn shard_of(&self, slot: Slot) -> ShardId {
        self.meta.borrow().shard_of(slot).unwrap_or(ShardId::META)
    }

    fn by_leader(&self, batch: Vec<Queued>, hint: Option<(ShardId, NodeId)>) -> ByLeader {
        let mut by_leader = ByLeader::new();
        for queued in batch {
            let shard = self.shard_of(queued.slot);
            let leader = match hint {
                Some((of, leader)) if of == shard => Some(leader),
                _ => self.leaders.of(shard),
            };
            let shards = by_leader.entry(leader).or_default();
            shards.entry(shard).or_default().push(queued);
        }
        by_leader
    }

    /// Another try, after a pause, with what the last one left of one shard.
    async fn try_again(&self, left: Left) -> Tried {
        metrics::relay_retried();
        sleep(left.delay).await;
        let mut queued = left.queued;
        let before = queued.len();
        queued.retain(|queued| queued.delivery.is_wanted());
        let unwanted = before - queued.len();
        let delay = (left.delay * 2).min(RETRY_DELAY_MAX);
        let by_leader = self.by_leader(queued, left.hint).into_iter();
        let tries = by_leader.map(|(leader, shards)| self.try_deliver(leader, shards, delay));
        let mut tried = Tried {
            done: unwanted,
            left: Vec::new(),
        };
        for one in join_all(tries).await {
            tried.done += one.done;
            tried.left.extend(one.left);
        }
        tried
    }

    /// One try; the next one comes after `delay`.
    async fn try_deliver(
        &self,
        to: Option<NodeId>,
        shards: BTreeMap<ShardId, Vec<Queued>>,
        delay: Duration,
    ) -> Tried {
        let request = RelayRequest {
            shards: shards
                .iter()
                .map(|(shard, queued)| ShardRelay {
                    shard: shard.0,
                    items: queued.iter().map(|queued| queued.item.clone()).collect(),
                })
                .collect(),
        };
        let mut verdicts = match to {
            Some(to) => self.ask(to, request).await.into_iter(),
            None => Vec::new().into_iter(),
        };
        let mut tried = Tried::default();
        for (shard, queued) in shards {
            let verdict = verdicts.next().unwrap_or_default();
            if verdict.verdict() == Verdict::Done {
                metrics::relayed(queued.len());
                tried.done += queued.len();
                queued.into_iter().for_each(|queued| queued.delivery.done());
            } else {
                let leader = NodeId::known(verdict.leader_node_id);
                tried.left.push(Left {
                    queued,
                    hint: leader.map(|leader| (shard, leader)),
                    delay,
                });
            }
        }
        tried
    }

    /// The verdicts of a node; none if it does not answer.
    async fn ask(&self, to: NodeId, request: RelayRequest) -> Vec<RelayVerdict> {
        if to == self.node_id {
            let received = timeout(ANSWER_TIMEOUT, self.receiver.receive(request)).await;
            return received
                .map(|response| response.verdicts)
                .unwrap_or_default();
        }
        let (peers, lane) = (&*self.peers, Lane::Relay);
        let call = ask(peers, to, lane, ShardId::META, request, ANSWER_TIMEOUT);
        let answered = call.await.map(|response| response.verdicts);
        answered.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use futures::future::ready;
    use parlance_proto::ids::{AppId, UserId};
    use parlance_proto::raft::v1::{
        RelayResponse, SnapshotChunk, SnapshotHeader, SnapshotResponse, peer_message::Body,
    };
    use parlance_proto::slot::SlotRange;
    use parlance_proto::store::v1::{ClusterMap, Consumer, MapShard};
    use tokio::sync::watch;
    use tokio::time::Instant;

    use super::super::under_way::UnderWay;
    use super::*;
    use crate::link::Links;
    use crate::meta::{Lead, MetaState};
    use crate::raft::PeerError;
    use crate::shard::{Marks, Shards};

    const STUCK: ShardId = ShardId(1);
    const OTHER: ShardId = ShardId(2);
    const OWN_NODE: NodeId = NodeId(1);
    const PEER: NodeId = NodeId(2);

    /// A node whose shard [`STUCK`] can never take anything.
    #[derive(Default)]
    struct Peers {
        seen: Mutex<HashSet<(ShardId, Bytes)>>,
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
            let verdict = |relay: &ShardRelay| {
                let shard = ShardId(relay.shard);
                let items = relay.items.iter().map(|item| (shard, item.clone()));
                self.seen.lock().extend(items);
                RelayVerdict {
                    verdict: if shard == STUCK {
                        Verdict::NotLeader.into()
                    } else {
                        Verdict::Done.into()
                    },
                    leader_node_id: 0,
                    moved: shard == STUCK,
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

    async fn eventually(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "waited too long: {what}");
            tokio::task::yield_now().await;
        }
    }

    struct Fixture {
        meta: watch::Sender<Arc<MetaState>>,
        peers: Arc<Peers>,
        sender: RelaySender,
    }

    fn fixture() -> Fixture {
        let meta = watch::Sender::new(Arc::new(state(BORDER)));
        let leaders = Leaders::default();
        for shard in [STUCK, OTHER] {
            let node = Some(PEER);
            leaders.learn(shard, Lead { term: 1, node });
        }
        let receiver = RelayReceiver::new(Shards::default(), Links::default(), leaders.clone());
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
        let Fixture { peers, sender, .. } = &fixture();
        let (stuck_items, stuck) = under_way();
        let (items, done) = under_way();
        for number in 0..300 {
            let (slot, item) = item(STUCK, number);
            let sent = (STUCK, item.clone());
            let delivery = stuck_items.begin(1, 8).remove(0);
            sender.send(slot, item, delivery).await;
            // Each goes in a batch of its own.
            eventually("its first try", || peers.seen.lock().contains(&sent)).await;
        }
        let delivery = items.begin(1, 8).remove(0);
        let (slot, item) = item(OTHER, 300);
        sender.send(slot, item, delivery).await;
        eventually("the other shard's item", || done.get(Consumer::Relay) == 1).await;
        assert_eq!(stuck.get(Consumer::Relay), 0);
    }

    #[tokio::test]
    async fn what_has_moved_goes_to_the_shard_that_the_map_says_later() {
        let Fixture {
            meta,
            peers,
            sender,
        } = &fixture();
        let (items, done) = under_way();
        let (slot, item) = item(STUCK, 1);
        let sent = (STUCK, item.clone());
        sender.send(slot, item, items.begin(1, 8).remove(0)).await;
        eventually("its first try", || peers.seen.lock().contains(&sent)).await;
        meta.send_replace(Arc::new(state(0)));
        eventually("its delivery", || done.get(Consumer::Relay) == 1).await;
        assert!(peers.seen.lock().contains(&(OTHER, sent.1.clone())));
    }
}
