//! Carries relay items of all shards that this node leads to the leaders of home shards, in batches, until done.
//!
//! One lane a node: what gathers while a batch is sent goes as the next one, whatever its shards. Batches of a lane are
//! sent in order and may be under way at once, since each is answered only when the gateways have it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use parlance_proto::raft::v1::{
    RelayItem, RelayRequest, RelayVerdict, ShardRelay, peer_message::Body, relay_verdict::Verdict,
};
use parlance_proto::shard::{META_GROUP, home_shard, shard_group};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep, timeout};

use super::home::Home;
use super::watermark::Delivery;
use crate::meta::{Leaders, MetaWatch};
use crate::metrics;
use crate::raft::{Lane, NodeId, PeerLink};

/// Items that wait in one lane.
const LANE_ITEMS_MAX: usize = 16 * 1024;
/// Items of one lane under way: each waits for gateways to acknowledge, or for a shard that has no leader.
const UNDER_WAY_ITEMS_MAX: usize = 64 * 1024;
/// Items of one batch.
const BATCH_ITEMS_MAX: usize = 1024;
/// How long a batch may wait for its answer: longer than [`super::home`] takes for one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Between tries of what was not taken.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// An item, its home shard and its place in the watermark.
struct Queued {
    shard: u32,
    item: RelayItem,
    delivery: Delivery,
}

/// The way to home shards, for all shards of this node.
pub struct Relayer {
    lanes: Mutex<HashMap<Option<NodeId>, mpsc::Sender<Queued>>>,
    route: Arc<Route>,
}

struct Route {
    node_id: NodeId,
    meta: MetaWatch,
    leaders: Leaders,
    peers: Arc<dyn PeerLink>,
    home: Arc<Home>,
}

impl Relayer {
    /// Lanes start with their first item.
    pub fn new(
        node_id: NodeId,
        meta: MetaWatch,
        leaders: Leaders,
        peers: Arc<dyn PeerLink>,
        home: Arc<Home>,
    ) -> Self {
        let route = Arc::new(Route {
            node_id,
            meta,
            leaders,
            peers,
            home,
        });
        Self {
            lanes: Mutex::default(),
            route,
        }
    }

    /// Queues an item for its user's home shard; waits while the lane is full.
    pub(super) async fn send(&self, item: RelayItem, delivery: Delivery) {
        let count = self.route.meta.borrow().shard_count();
        let shard = home_shard(&item.app_id, &item.user_id, count);
        // Items of shards without a known leader have a lane of their own.
        let lane = self.lane(self.route.leaders.of(shard_group(shard)));
        let queued = Queued {
            shard,
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

/// What a try came to.
struct Tried {
    /// Items that are done, or that nobody wants any more.
    done: usize,
    /// What was not taken, by shard, with the node that may lead it.
    left: Vec<(Vec<Queued>, Option<NodeId>)>,
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
                for (queued, hint) in tried.left {
                    tries.push(route.try_again(queued, hint).boxed());
                }
            }
            count = receiver.recv_many(&mut batch, BATCH_ITEMS_MAX), if room => {
                if count == 0 {
                    return;
                }
                under_way += count;
                for (leader, shards) in route.by_leader(batch) {
                    tries.push(route.try_deliver(leader, shards).boxed());
                }
            }
        }
    }
}

impl Route {
    /// What goes where: by the leader, and there by shard, each in the order of the batch.
    fn by_leader(
        &self,
        batch: Vec<Queued>,
    ) -> BTreeMap<Option<NodeId>, BTreeMap<u32, Vec<Queued>>> {
        let mut by_leader: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
        for queued in batch {
            let leader = self.leaders.of(shard_group(queued.shard));
            let shards = by_leader.entry(leader).or_default();
            shards.entry(queued.shard).or_default().push(queued);
        }
        by_leader
    }

    /// Another try with the items of one shard, after a pause.
    async fn try_again(&self, mut queued: Vec<Queued>, hint: Option<NodeId>) -> Tried {
        metrics::relay_retried();
        sleep(RETRY_DELAY).await;
        let before = queued.len();
        queued.retain(|queued| queued.delivery.is_wanted());
        let unwanted = before - queued.len();
        let Some(shard) = queued.first().map(|queued| queued.shard) else {
            return Tried {
                done: unwanted,
                left: Vec::new(),
            };
        };
        let to = hint.or_else(|| self.leaders.of(shard_group(shard)));
        let tried = self.try_deliver(to, BTreeMap::from([(shard, queued)]));
        let Tried { done, left } = tried.await;
        Tried {
            done: done + unwanted,
            left,
        }
    }

    /// One try.
    async fn try_deliver(&self, to: Option<NodeId>, shards: BTreeMap<u32, Vec<Queued>>) -> Tried {
        let request = RelayRequest {
            shards: shards
                .iter()
                .map(|(shard, queued)| ShardRelay {
                    shard: *shard,
                    items: queued.iter().map(|queued| queued.item.clone()).collect(),
                })
                .collect(),
        };
        let mut verdicts = match to {
            Some(to) => self.ask(to, request).await.into_iter(),
            None => Vec::new().into_iter(),
        };
        let mut tried = Tried {
            done: 0,
            left: Vec::new(),
        };
        for (_, queued) in shards {
            let verdict = verdicts.next().unwrap_or_default();
            if verdict.verdict() == Verdict::Done {
                metrics::relayed(queued.len());
                tried.done += queued.len();
                queued.into_iter().for_each(|queued| queued.delivery.done());
            } else {
                let hint = Some(verdict.leader_node_id).filter(|node| *node != 0);
                tried.left.push((queued, hint));
            }
        }
        tried
    }

    /// The verdicts of a node; none if it does not answer.
    async fn ask(&self, to: NodeId, request: RelayRequest) -> Vec<RelayVerdict> {
        if to == self.node_id {
            let taken = timeout(ANSWER_TIMEOUT, self.home.take(request)).await;
            return taken.map(|response| response.verdicts).unwrap_or_default();
        }
        let body = Body::Relay(request);
        let call = self
            .peers
            .call(to, Lane::Relay, META_GROUP, body, ANSWER_TIMEOUT);
        match call.await {
            Ok(Body::RelayResponse(response)) => response.verdicts,
            Ok(_) | Err(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use bytes::Bytes;
    use futures::future::ready;
    use parlance_proto::raft::v1::{RelayResponse, SnapshotHeader, SnapshotResponse};
    use parlance_proto::shard::Group;
    use parlance_proto::store::v1::ClusterMap;
    use tokio::sync::watch;

    use super::*;
    use crate::deliver::watermark::Watermark;
    use crate::link::Links;
    use crate::meta::{Lead, MetaState};
    use crate::raft::{PeerError, SnapshotFiles};
    use crate::shard::Shards;

    const STUCK: u32 = 0;
    const OTHER: u32 = 1;

    /// A node whose shard [`STUCK`] can never take anything.
    #[derive(Default)]
    struct Peers {
        seen: Mutex<HashSet<Bytes>>,
    }

    impl PeerLink for Peers {
        fn call(
            &self,
            _: NodeId,
            _: Lane,
            _: Group,
            body: Body,
            _: Duration,
        ) -> BoxFuture<'static, Result<Body, PeerError>> {
            let Body::Relay(request) = body else {
                panic!("only relays: {body:?}")
            };
            let items = request.shards.iter().flat_map(|relay| &relay.items);
            self.seen
                .lock()
                .extend(items.map(|item| item.publish.clone()));
            let verdict = |relay: &ShardRelay| RelayVerdict {
                verdict: if relay.shard == STUCK {
                    Verdict::Retry.into()
                } else {
                    Verdict::Done.into()
                },
                leader_node_id: 0,
            };
            let verdicts = request.shards.iter().map(verdict).collect();
            ready(Ok(Body::RelayResponse(RelayResponse { verdicts }))).boxed()
        }

        fn post(&self, _: NodeId, _: Lane, _: Group, _: Body) {}

        fn send_snapshot(
            &self,
            _: NodeId,
            _: SnapshotHeader,
            _: SnapshotFiles,
        ) -> BoxFuture<'static, Result<SnapshotResponse, PeerError>> {
            panic!("no snapshots here")
        }
    }

    fn item(shard: u32, number: u64) -> RelayItem {
        let user = (0..)
            .map(|n| format!("user{n}"))
            .find(|user| home_shard("demo", user, 2) == shard)
            .unwrap();
        RelayItem {
            app_id: "demo".into(),
            user_id: user,
            publish: Bytes::copy_from_slice(&number.to_be_bytes()),
            ..RelayItem::default()
        }
    }

    async fn eventually(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "waited too long: {what}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_stuck_shard_holds_up_no_other_shard_of_its_node() {
        let map = ClusterMap {
            shard_count: 2,
            ..ClusterMap::default()
        };
        let meta = watch::Sender::new(Arc::new(MetaState {
            map: Some(map),
            ..MetaState::default()
        }));
        let leaders = Leaders::default();
        for shard in [STUCK, OTHER] {
            let lead = Lead {
                term: 1,
                node: Some(2),
            };
            leaders.learn(shard_group(shard), lead);
        }
        let home = Home::new(Shards::default(), Links::default(), leaders.clone());
        let peers = Arc::new(Peers::default());
        let relayer = Relayer::new(1, meta.subscribe(), leaders, peers.clone(), Arc::new(home));

        let (stuck, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stuck_items = Watermark::new(0, stuck.clone());
        for number in 0..300 {
            let item = item(STUCK, number);
            let publish = item.publish.clone();
            let delivery = stuck_items.begin(1, 8).remove(0);
            relayer.send(item, delivery).await;
            // Each goes in a batch of its own.
            eventually("its first try", || peers.seen.lock().contains(&publish)).await;
        }
        let delivery = Watermark::new(0, done.clone()).begin(1, 8).remove(0);
        relayer.send(item(OTHER, 300), delivery).await;
        eventually("the other shard's item", || {
            done.load(Ordering::Relaxed) == 1
        })
        .await;
        assert_eq!(stuck.load(Ordering::Relaxed), 0);
    }
}
