//! What the leader of a shard sees to, by the cluster map: that its log says which slots it owns, and that a split that
//! was begun is finished, also when whoever asked for it is gone.

use std::sync::Arc;

use parlance_proto::common::v1::Error;
use parlance_proto::slot::SlotRange;
use parlance_proto::store::v1::MapShard;
use tokio::time::{Duration, sleep, timeout};

use super::split::{Split, Splitter};
use super::tasks::Tasks;
use super::view::ClusterView;
use crate::apply::shard_state;
use crate::meta::MetaState;
use crate::shard::Shard;
use crate::store::{StateStore, beside};

/// Between looks when nothing changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(5);
/// How long one shard may take before others get their turn.
const SHARD_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Tend {
    pub(super) view: ClusterView,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) splitter: Arc<Splitter>,
}

impl Tend {
    pub(super) async fn run(self, tasks: Tasks) {
        let mut meta = self.view.meta.clone();
        let mut leaders = self.view.leaders.watch();
        loop {
            let state = meta.borrow_and_update().clone();
            leaders.mark_unchanged();
            if tasks.or_stopped(self.tend(&state)).await.is_none() {
                return;
            }
            let woken = async {
                tokio::select! {
                    _ = meta.changed() => sleep(GATHER).await,
                    _ = leaders.changed() => sleep(GATHER).await,
                    () = sleep(INTERVAL) => {}
                }
            };
            if tasks.or_stopped(woken).await.is_none() {
                return;
            }
        }
    }

    async fn tend(&self, state: &MetaState) {
        for shard in self.view.shards.all() {
            if !shard.is_led_here() {
                continue;
            }
            let tended = timeout(SHARD_TIMEOUT, self.tend_one(&shard, state)).await;
            if let Ok(Err(error)) = tended {
                let shard = shard.id();
                tracing::debug!(
                    %shard,
                    error = error.message,
                    "the shard's slots are not settled yet"
                );
            }
        }
    }

    async fn tend_one(&self, shard: &Shard, state: &MetaState) -> Result<(), Error> {
        let number = shard.id();
        let store = self.store.clone();
        let own = beside(move || shard_state(&*store, number)).await;
        let own = own.map_err(crate::shard::ShardError::from)?;
        if own.epoch == 0
            && let Some(range) = state.founding_range(number)
        {
            found(shard, range).await?;
        }
        let pending = |child: &&MapShard| child.parent_id() == Some(number) && child.pending;
        for child in state.shards().iter().filter(pending) {
            self.splitter.resume(shard, &Split::of(child)).await?;
        }
        Ok(())
    }
}

/// The shard was made with the cluster: its log begins with the slots that it owns.
async fn found(shard: &Shard, range: SlotRange) -> Result<(), Error> {
    Ok(shard.found(range).await?)
}
