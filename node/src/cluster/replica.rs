//! Starts the replica of one shard with everything that belongs to it.

use std::sync::Arc;

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::store::v1::MapShard;
use tokio::sync::Notify;

use super::error::StartError;
use super::leadership::Leadership;
use super::levels::levels;
use super::view::ClusterView;
use crate::apply::{Levels, ShardMachine, dedup::Dedup, shard_state};
use crate::config::Config;
use crate::deliver::{RelaySender, deliver_while_leading};
use crate::raft::RaftHost;
use crate::shard::{Proposer, Shard, ShardParts};
use crate::store::{StateStore, beside};
use crate::totals::Totals;

/// What a replica needs of its node.
pub(super) struct ReplicaStarter {
    pub(super) view: ClusterView,
    pub(super) config: Config,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) host: RaftHost,
    pub(super) relays: Arc<RelaySender>,
    pub(super) leadership: Leadership,
    pub(super) totals: Totals,
    /// Told when what a shard owns has changed: a child may be there to start.
    pub(super) range_changed: Arc<Notify>,
}

impl ReplicaStarter {
    pub(super) async fn start(&self, of: &MapShard) -> Result<(), StartError> {
        let (id, store) = (ShardId(of.shard), &self.store);
        let parts = ShardParts::new(self.range_changed.clone(), &self.totals);
        let levels = Levels::new(levels());
        let (rows, sink, tips) = (store.clone(), parts.sink(), self.totals.tips.clone());
        let open = move || ShardMachine::open(id, rows, sink, dedup(), levels, &tips);
        let machine = beside(open).await?;
        let raft = self.host.start_replica(id, Box::new(machine)).await?;
        if of.founder == self.view.node_id.0 {
            raft.initialize(of.replicas.iter().copied().map(NodeId).collect())
                .await?;
        }
        let rows = store.clone();
        parts
            .marks()
            .load(&beside(move || shard_state(&*rows, id)).await?);
        let meta = self.view.meta.clone();
        let proposer = Proposer::start(
            raft.clone(),
            self.config.proposer,
            parts.marks().clone(),
            Arc::new(move || meta.borrow().map().map_or(1, |map| map.feature_level)),
            self.view.clock.clone(),
            self.totals.queues.clone(),
        );
        let shard = Arc::new(Shard::new(raft.clone(), proposer, parts, store.clone()));
        self.view.shards.insert(shard.clone());
        let tasks = self.leadership.tasks.clone();
        let delivery = deliver_while_leading(shard, self.relays.clone(), raft.stopping());
        self.leadership.follow(raft);
        self.leadership.tasks.spawn(async move {
            tasks.or_stopped(delivery).await;
        });
        Ok(())
    }
}

#[cfg(not(feature = "unsafe-test-switches"))]
fn dedup() -> Dedup {
    Dedup::On
}

#[cfg(feature = "unsafe-test-switches")]
fn dedup() -> Dedup {
    let off = std::env::var_os("PARLANCE_TEST_UNSAFE_NO_DEDUP").is_some_and(|value| value == "1");
    if off { Dedup::Off } else { Dedup::On }
}
