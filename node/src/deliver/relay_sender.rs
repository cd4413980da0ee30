//! Carries relay items of all shards that this node leads to the leaders of home shards, in batches, until done.
//!
//! One lane a node: what gathers while a batch is sent goes as the next one, whatever its shards. Batches of a lane are
//! sent in order and may be under way at once, since each is answered only when the gateways have it. What a home does not take
//! is parked (`parked.rs`), and tried again by a task of that home's own. Which shard an item goes to is asked of the cluster map at
//! each try, since a split may have moved its user.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{RelayRequest, RelayVerdict, ShardRelay, relay_verdict::Verdict};
use parlance_proto::slot::Slot;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, sleep, timeout};

use super::budget::Budget;
use super::parked::{Line, Parked, Why};
use super::relay_receiver::RelayReceiver;
use super::under_way::Delivery;
use crate::meta::{Leaders, MetaWatch};
use crate::metrics;
use crate::raft::{Lane, PeerLink, ask};

/// Items that wait in one lane.
const LANE_ITEMS_MAX: usize = 16 * 1024;
/// Items of one lane under way: each waits for gateways to acknowledge.
const UNDER_WAY_ITEMS_MAX: usize = 64 * 1024;
/// A lane without items for this long ends: its node may be gone for ever.
const LANE_IDLE: Duration = Duration::from_secs(60);
/// Items of one batch.
const BATCH_ITEMS_MAX: usize = 1024;
/// How long a batch may wait for its answer: longer than [`super::relay_receiver`] takes for one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Between the first tries of what was not taken.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
/// Between later ones: it doubles up to this.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);

/// An item, its user's slot and its place in the outbox.
pub(super) struct Queued {
    pub(super) slot: Slot,
    /// Encoded.
    pub(super) item: Bytes,
    pub(super) delivery: Delivery,
}

/// What a home did not take.
struct Left {
    line: Line,
    queued: Vec<Queued>,
    /// The node that may lead it, as the last one asked said.
    hint: Option<NodeId>,
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
    parked: Parked,
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
            parked: Parked::new(node_id),
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

    /// Told when a home takes again what was set aside for it.
    pub(super) fn freed(&self) -> watch::Receiver<u64> {
        self.route.parked.freed()
    }

    /// Whether what was set aside for a home has to stay so.
    pub(super) fn is_parked(&self, home: ShardId) -> bool {
        self.route.parked.is_parked(home)
    }

    /// Queues an encoded `RelayItem` for its user's home shard; waits while the lane is full.
    pub(super) async fn send(&self, slot: Slot, item: Bytes, delivery: Delivery) {
        let mut queued = Queued {
            slot,
            item,
            delivery,
        };
        // Items of shards without a known leader have a lane of their own.
        let leader = self.route.leaders.of(self.route.shard_of(slot));
        // A lane may have ended a moment ago.
        while let Err(mpsc::error::SendError(unsent)) = self.lane(leader).send(queued).await {
            queued = unsent;
        }
    }

    fn lane(&self, to: Option<NodeId>) -> mpsc::Sender<Queued> {
        let mut lanes = self.lanes.lock();
        lanes.retain(|_, lane| !lane.is_closed());
        let start = || {
            let (sender, receiver) = mpsc::channel(LANE_ITEMS_MAX);
            tokio::spawn(run_lane(self.route.clone(), receiver));
            sender
        };
        lanes.entry(to).or_insert_with(start).clone()
    }
}

/// Sends what comes until nothing does.
async fn run_lane(route: Arc<Route>, mut receiver: mpsc::Receiver<Queued>) {
    let mut tries: FuturesUnordered<BoxFuture<'_, usize>> = FuturesUnordered::new();
    let mut under_way = 0;
    let mut ended = false;
    while !ended || !tries.is_empty() {
        let room = !ended && under_way < UNDER_WAY_ITEMS_MAX;
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            Some(count) = tries.next() => under_way -= count,
            count = receiver.recv_many(&mut batch, BATCH_ITEMS_MAX), if room => {
                ended = count == 0;
                under_way += count;
                for (leader, shards) in route.by_leader(batch, None) {
                    tries.push(deliver_or_park(&route, leader, shards).boxed());
                }
            }
            // What is in the channel already still comes out of it.
            () = sleep(LANE_IDLE), if tries.is_empty() => receiver.close(),
        }
    }
}

/// One try with items of a lane; answers how many they were.
async fn deliver_or_park(
    route: &Arc<Route>,
    to: Option<NodeId>,
    shards: BTreeMap<ShardId, Vec<Queued>>,
) -> usize {
    let count = shards.values().map(Vec::len).sum();
    let (mut to_try, mut left) = (BTreeMap::new(), Vec::new());
    for (home, queued) in shards {
        if route.parked.is_silent(home) {
            // Behind what waits already.
            let (line, hint) = (Line::of(home, Why::Silent), None);
            left.push(Left { line, queued, hint });
        } else {
            to_try.insert(home, queued);
        }
    }
    left.extend(route.try_deliver(to, to_try).await);
    route.park(left);
    count
}

/// Tries again what is parked for a home until it has taken all of it. One batch at a time: what gathers meanwhile goes with the
/// next one.
async fn try_again(route: Arc<Route>, line: Line) {
    let mut delay = RETRY_DELAY_MIN;
    sleep(delay).await;
    loop {
        let taken = route.parked.take(line, BATCH_ITEMS_MAX);
        if taken.queued.is_empty() {
            if route.parked.free(line) {
                return;
            }
            continue;
        }
        metrics::relay_retried();
        let hint = taken.hint.map(|hint| (line.home, hint));
        let by_leader = route.by_leader(taken.queued, hint);
        let tries = by_leader.into_iter();
        let tries = tries.map(|(leader, shards)| route.try_deliver(leader, shards));
        let left = join_all(tries).await.into_iter().flatten();
        // What a home that was silent cannot write holds up nothing else. What waits for a write waits for it whoever leads.
        let (other, left): (Vec<Left>, Vec<Left>) =
            left.partition(|left| left.line.why != line.why && line.why == Why::Silent);
        route.park(other);
        let all_done = left.is_empty();
        // Those of a shard that was split may be several shards' by now.
        let hint = left.iter().find(|left| left.line.home == line.home);
        let hint = hint.and_then(|left| left.hint);
        let queued = left.into_iter().flat_map(|left| left.queued).collect();
        route.parked.put_back(line, taken.size, queued, hint);
        if all_done {
            delay = RETRY_DELAY_MIN;
            continue;
        }
        sleep(delay).await;
        delay = (delay * 2).min(RETRY_DELAY_MAX);
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

    /// One try; answers what was not taken.
    async fn try_deliver(
        &self,
        to: Option<NodeId>,
        shards: BTreeMap<ShardId, Vec<Queued>>,
    ) -> Vec<Left> {
        if shards.is_empty() {
            return Vec::new();
        }
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
        let mut left = Vec::new();
        for (home, queued) in shards {
            let verdict = verdicts.next().unwrap_or_default();
            let hint = NodeId::known(verdict.leader_node_id);
            if verdict.verdict() != Verdict::Done {
                let line = Line::of(home, Why::Silent);
                left.push(Left { line, queued, hint });
                continue;
            }
            let unwritten: HashSet<u32> = verdict.left.into_iter().collect();
            let places = (0..).zip(queued);
            let (queued, done): (Vec<_>, Vec<_>) =
                places.partition(|(place, _)| unwritten.contains(place));
            metrics::relayed(done.len());
            done.into_iter().for_each(|(_, done)| done.delivery.done());
            if !queued.is_empty() {
                let line = Line::of(home, Why::Unwritten);
                let queued = queued.into_iter().map(|(_, queued)| queued).collect();
                left.push(Left { line, queued, hint });
            }
        }
        left
    }

    fn park(self: &Arc<Self>, left: Vec<Left>) {
        for Left { line, queued, hint } in left {
            if self.parked.park(line, queued, hint) {
                tokio::spawn(try_again(self.clone(), line));
            }
        }
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
pub(super) mod tests;
