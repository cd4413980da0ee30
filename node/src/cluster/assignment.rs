//! Which replicas run on this node: those that it has rows of, and those that the cluster map gives it.
//!
//! Two do not follow from the map at once. The child of a split starts where its parent has a replica only once that has
//! applied the split, which made the child's rows; until then the child's messages are answered "not yet". And a replica
//! that the map does not want any more runs until the shard's leader says that its replicas are those wanted: it may be
//! needed to get there. When none is left on a replaced node, the node ends itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{TryStreamExt, stream};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::store::v1::{MapShard, NodeState};
use tokio::sync::watch;
use tokio::time::{Duration, sleep};

use super::error::StartError;
use super::replica::ReplicaStarter;
use super::tasks::Tasks;
use crate::apply::OwnedRange;
use crate::meta::{Leaders, MetaState};
use crate::raft::Replica;
use crate::store::{StateStore, StoreError, Table, beside, key};

/// Shards that are started at the same time.
const STARTING_MAX: usize = 8;
/// How often the child of a split stands for election before it is left to its own timers.
const ELECT_TRIES: u32 = 10;
/// Between these.
const ELECT_DELAY: Duration = Duration::from_millis(50);
/// Between looks at replicas that are to leave.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Assignment {
    starter: ReplicaStarter,
    failed: watch::Sender<Option<String>>,
    /// Shards with a replica here that is not wanted, and by which version of the map.
    unwanted: BTreeMap<ShardId, u64>,
    /// Those that were let go: their rows are still here, and start no replica any more.
    let_go: BTreeSet<ShardId>,
}

impl Assignment {
    pub(super) fn new(starter: ReplicaStarter, failed: watch::Sender<Option<String>>) -> Self {
        Self {
            starter,
            failed,
            unwanted: BTreeMap::new(),
            let_go: BTreeSet::new(),
        }
    }

    /// Starts and stops replicas until the node stops.
    pub(super) async fn run(mut self, tasks: Tasks) {
        let mut meta = self.starter.view.meta.clone();
        let range_changed = self.starter.range_changed.clone();
        loop {
            let state = meta.borrow_and_update().clone();
            self.want_again(&state);
            if let Err(error) = self.start_missing(&state).await {
                self.fail(format!("a shard could not be started: {error}"));
            }
            self.stop_unwanted(&state).await;
            let woken = async {
                tokio::select! {
                    changed = meta.changed() => changed.is_ok(),
                    () = range_changed.notified() => true,
                    () = sleep(INTERVAL), if !self.unwanted.is_empty() || self.is_told() => true,
                }
            };
            if tasks.or_stopped(woken).await != Some(true) {
                return;
            }
        }
    }

    /// Another node says that this one was replaced; this node's own map may never get that far.
    fn is_told(&self) -> bool {
        self.starter.view.heard.replaced_us() > 0
    }

    fn fail(&self, reason: String) {
        self.failed.send_replace(Some(reason));
    }

    /// What was let go may be given back.
    fn want_again(&mut self, state: &MetaState) {
        let (node_id, told) = (self.starter.view.node_id, self.is_told());
        let wanted = |id| state.shard(id).is_some_and(|shard| shard.is_on(node_id));
        self.let_go.retain(|id| told || !wanted(*id));
    }

    async fn start_missing(&self, state: &MetaState) -> Result<(), StartError> {
        let view = &self.starter.view;
        let running: BTreeSet<ShardId> = view.shards.all().iter().map(|s| s.id()).collect();
        let shards = state.shards().iter().map(MapShard::id);
        let new: Vec<ShardId> = shards.filter(|id| !running.contains(id)).collect();
        let held = with_rows(self.starter.store.clone(), new).await?;
        let held = |id| running.contains(&id) || held.contains(&id);
        let mut missing = Vec::new();
        for shard in state.shards() {
            let is_there = running.contains(&shard.id()) || self.let_go.contains(&shard.id());
            if !is_there && self.runs(shard, state, &held) {
                missing.push(Ok(shard));
            }
        }
        // Each replays its log first.
        stream::iter(missing)
            .try_for_each_concurrent(STARTING_MAX, |shard| self.start(shard))
            .await
    }

    async fn start(&self, shard: &MapShard) -> Result<(), StartError> {
        let view = &self.starter.view;
        self.starter.start(shard).await?;
        let parent = shard.parent_id().and_then(|parent| view.shards.get(parent));
        if parent.is_some_and(|parent| parent.is_led_here())
            && let Some(child) = view.shards.get(shard.id())
        {
            let elected = elect(view.leaders.clone(), child.raft().clone());
            self.starter.leadership.tasks.spawn(elected);
        }
        Ok(())
    }

    /// `held` says of which shards there are rows here.
    fn runs(&self, shard: &MapShard, state: &MetaState, held: &impl Fn(ShardId) -> bool) -> bool {
        let node_id = self.starter.view.node_id;
        // It has a replica here, running or about to.
        let is_here = |id| held(id) && !self.let_go.contains(&id);
        let parent = shard.parent_id().and_then(|parent| state.shard(parent));
        let parent = match parent {
            Some(parent) if parent.is_on(node_id) || is_here(parent.id()) => {
                // Not by its rows, which an installation that was cut short may replace once more: by its replica.
                let running = self.starter.view.shards.get(parent.id());
                Parent::Here {
                    is_behind: running.is_some_and(|parent| is_behind(&parent.range(), shard)),
                }
            }
            _ => Parent::Elsewhere,
        };
        should_run(shard, node_id, held(shard.id()), parent)
    }

    async fn stop_unwanted(&mut self, state: &MetaState) {
        let view = &self.starter.view;
        let told = view.heard.replaced_us();
        let node = state.node(view.node_id);
        let removed = node.is_some_and(|node| node.state() == NodeState::Removed);
        let replaced = told > 0 || removed;
        for shard in view.shards.all() {
            let number = shard.id();
            let wanted = state
                .shard(number)
                .is_some_and(|shard| shard.is_on(view.node_id));
            if wanted && told == 0 {
                self.unwanted.remove(&number);
                continue;
            }
            let since = *self.unwanted.entry(number).or_insert(state.version());
            if self.is_settled_by(number, told.max(since)) {
                self.unwanted.remove(&number);
                view.shards.remove(number);
                tracing::info!(shard = %number, "the replica here is not needed any more");
                shard.raft().shutdown().await;
                self.let_go.insert(number);
            }
        }
        if !replaced {
            return;
        }
        let since = *self
            .unwanted
            .entry(ShardId::META)
            .or_insert(state.version());
        if view.shards.all().is_empty() && self.is_settled_by(ShardId::META, told.max(since)) {
            self.fail(format!(
                "node {} was replaced and no shard needs it any more: remove its data directory",
                view.node_id
            ));
        }
    }

    /// Whether the leader says that the shard's replicas are those that the map wants, by this version or a later one.
    fn is_settled_by(&self, shard: ShardId, version: u64) -> bool {
        let report = self.starter.view.heard.report(shard);
        report.is_some_and(|report| report.settled >= version)
    }
}

/// Makes the child of a split elect at once, here beside its parent's leader. The other replicas may apply the split a
/// moment later, and know the child only then.
async fn elect(leaders: Leaders, child: Replica) {
    for _ in 0..ELECT_TRIES {
        if leaders.of(child.id()).is_some() {
            return;
        }
        child.elect().await;
        sleep(ELECT_DELAY).await;
    }
}

/// Where the parent of a shard is, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parent {
    /// It has or gets a replica here.
    Here {
        /// Its rows say that the split is behind it.
        is_behind: bool,
    },
    /// There is none, or it has no replica here.
    Elsewhere,
}

fn should_run(shard: &MapShard, node_id: NodeId, has_rows: bool, parent: Parent) -> bool {
    let wanted = shard.is_on(node_id);
    match parent {
        _ if has_rows => true,
        Parent::Here { is_behind } => wanted && is_behind,
        Parent::Elsewhere => wanted && !shard.pending,
    }
}

/// Whether the parent has given the child's slots away. A child keeps its first slot for ever.
fn is_behind(parent: &OwnedRange, child: &MapShard) -> bool {
    let last = parent.slots.map(|slots| u32::from(slots.last().number()));
    last.is_some_and(|last| last < child.first_slot)
}

/// Those of which there are rows.
async fn with_rows(
    store: Arc<dyn StateStore>,
    shards: Vec<ShardId>,
) -> Result<BTreeSet<ShardId>, StoreError> {
    let look = move || {
        let mut found = BTreeSet::new();
        for shard in shards {
            if store.get(Table::Meta, &key::applied(shard))?.is_some() {
                found.insert(shard);
            }
        }
        Ok(found)
    };
    beside(look).await
}

#[cfg(test)]
mod tests {
    use parlance_proto::slot::SlotRange;

    use super::*;

    const HERE: NodeId = NodeId(1);

    fn shard(replicas: &[u64], pending: bool) -> MapShard {
        MapShard {
            shard: 2,
            replicas: replicas.to_vec(),
            first_slot: 100,
            last_slot: 199,
            pending,
            ..MapShard::default()
        }
    }

    #[test]
    fn what_has_rows_runs_whatever_the_map_says() {
        let before = Parent::Here { is_behind: false };
        assert!(should_run(&shard(&[2], true), HERE, true, before));
        assert!(should_run(
            &shard(&[2], false),
            HERE,
            true,
            Parent::Elsewhere
        ));
    }

    #[test]
    fn a_child_starts_only_behind_its_parents_split() {
        for pending in [true, false] {
            let child = shard(&[HERE.0, 2], pending);
            let parent = |is_behind| Parent::Here { is_behind };
            assert!(!should_run(&child, HERE, false, parent(false)));
            assert!(should_run(&child, HERE, false, parent(true)));
            assert_eq!(
                should_run(&child, HERE, false, Parent::Elsewhere),
                !pending,
                "elsewhere its leader feeds it"
            );
            assert!(!should_run(
                &shard(&[2], pending),
                HERE,
                false,
                parent(true)
            ));
        }
    }

    #[test]
    fn a_parent_is_behind_a_split_when_it_owns_less() {
        let state = |last_slot, epoch| OwnedRange {
            slots: SlotRange::new(0, last_slot).filter(|_| epoch > 0),
            epoch,
            splits: Vec::new(),
        };
        let child = shard(&[HERE.0], true);
        assert!(!is_behind(&state(199, 1), &child));
        assert!(is_behind(&state(99, 2), &child));
        assert!(is_behind(&state(49, 3), &child), "split again since");
        assert!(!is_behind(&state(0, 0), &child), "nothing applied yet");
    }
}
