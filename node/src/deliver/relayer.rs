//! Carries relay items of all shards that this node leads to the leaders of home shards, in batches, until done.
//!
//! One lane a home shard: what gathers while a batch is sent goes as the next one. Batches of a lane are sent in order
//! and may be under way at once, since each is answered only when the gateways have it.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use parlance_proto::raft::v1::{
    RelayItem, RelayRequest, peer_message::Body, relay_response::Verdict,
};
use parlance_proto::shard::{home_shard, shard_group};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use super::home::Home;
use super::watermark::Delivery;
use crate::meta::{Leaders, MetaWatch};
use crate::metrics;
use crate::raft::{Lane, NodeId, PeerLink};

/// Items that wait in one lane.
const LANE_ITEMS_MAX: usize = 4096;
/// Items of one batch.
const BATCH_ITEMS_MAX: usize = 256;
/// Batches of one lane under way: each waits for gateways to acknowledge.
const BATCHES_UNDER_WAY_MAX: usize = 256;
/// A busy lane sends this seldom: what gathers meanwhile shares a batch. The first item after a pause goes at once.
const PACE: Duration = Duration::from_millis(1);
/// How long a batch may wait for its answer: longer than a home leader waits for a broken link.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Between tries of a batch.
const RETRY_DELAY: Duration = Duration::from_millis(50);

type Queued = (RelayItem, Delivery);

/// The way to home shards, for all shards of this node.
pub struct Relayer {
    lanes: Mutex<Vec<Option<mpsc::Sender<Queued>>>>,
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
            lanes: Mutex::new(Vec::new()),
            route,
        }
    }

    /// Queues an item for a user's home shard; waits while the lane is full.
    pub(super) async fn send(&self, app: &str, user: &str, item: RelayItem, delivery: Delivery) {
        let shard = home_shard(app, user, self.route.meta.borrow().shard_count());
        let lane = self.lane(shard);
        // A lane ends only with the node.
        let _ = lane.send((item, delivery)).await;
    }

    fn lane(&self, shard: u32) -> mpsc::Sender<Queued> {
        let mut lanes = self.lanes.lock();
        let place = shard as usize;
        if lanes.len() <= place {
            lanes.resize(place + 1, None);
        }
        let start = || {
            let (sender, receiver) = mpsc::channel(LANE_ITEMS_MAX);
            tokio::spawn(run_lane(shard, self.route.clone(), receiver));
            sender
        };
        match lanes.get_mut(place) {
            Some(lane) => lane.get_or_insert_with(start).clone(),
            None => start(),
        }
    }
}

async fn run_lane(shard: u32, route: Arc<Route>, mut receiver: mpsc::Receiver<Queued>) {
    let mut under_way = FuturesUnordered::new();
    let mut due = Instant::now();
    loop {
        let paced = Instant::now() >= due;
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            Some(()) = under_way.next() => continue,
            count = receiver.recv_many(&mut batch, BATCH_ITEMS_MAX), if paced && under_way.len() < BATCHES_UNDER_WAY_MAX => {
                if count == 0 {
                    return;
                }
                under_way.push(route.deliver(shard, batch));
                due = Instant::now() + PACE;
            }
            () = sleep_until(due), if !paced => {}
        }
    }
}

impl Route {
    /// Sends a batch until it is done or nobody wants it any more.
    async fn deliver(&self, shard: u32, mut batch: Vec<Queued>) {
        let mut hint = None;
        loop {
            batch.retain(|(_, delivery)| delivery.is_wanted());
            if batch.is_empty() {
                return;
            }
            let items = batch.iter().map(|(item, _)| item.clone()).collect();
            match self.try_deliver(shard, items, hint.take()).await {
                Ok(()) => {
                    metrics::relayed(batch.len());
                    return batch.into_iter().for_each(|(_, delivery)| delivery.done());
                }
                Err(leader) => {
                    metrics::relay_retried();
                    hint = leader;
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// One try; failing, says who may lead.
    async fn try_deliver(
        &self,
        shard: u32,
        items: Vec<RelayItem>,
        hint: Option<NodeId>,
    ) -> Result<(), Option<NodeId>> {
        let group = shard_group(shard);
        let to = hint.or_else(|| self.leaders.of(group)).ok_or(None)?;
        let request = RelayRequest { items };
        let response = if to == self.node_id {
            timeout(ANSWER_TIMEOUT, self.home.take(shard, request))
                .await
                .map_err(|_| None)?
        } else {
            match self
                .peers
                .call(to, Lane::Relay, group, Body::Relay(request), ANSWER_TIMEOUT)
                .await
            {
                Ok(Body::RelayResponse(response)) => response,
                Ok(_) | Err(_) => return Err(None),
            }
        };
        match response.verdict() {
            Verdict::Done => Ok(()),
            Verdict::NotLeader if response.leader_node_id != 0 => {
                Err(Some(response.leader_node_id))
            }
            Verdict::NotLeader | Verdict::Retry | Verdict::Unspecified => Err(None),
        }
    }
}
