//! Who owns which slots, and splits while a test has its hands free for something else.

use std::time::Duration;

use anyhow::{Context, Result};
use parlance_proto::admin::v1::{GetClusterStatusResponse, ShardStatus, SplitShardResponse};
use parlance_proto::ids::{AppId, ConversationId};
use parlance_proto::slot::{Slot, SlotRange};
use tokio::task::JoinHandle;

use super::asked::Asked;
use super::{APP, Cluster};
use crate::admin::Admin;

/// A split must be done within this, whatever happens to nodes meanwhile.
const SPLIT_WITHIN: Duration = Duration::from_secs(90);

/// The shard that owns a slot.
pub fn owner(status: &GetClusterStatusResponse, slot: Slot) -> Result<&ShardStatus> {
    let slot = u32::from(slot.number());
    // The child of a split under way has its slots in the map already, and does not own them yet.
    let owns = |shard: &&ShardStatus| {
        shard.health != "splitting" && (shard.first_slot..=shard.last_slot).contains(&slot)
    };
    let mut shards = status.shards.iter();
    shards
        .find(owns)
        .with_context(|| format!("no shard owns slot {slot}: {status:?}"))
}

/// Where a conversation of the tests' app lives.
pub fn slot_of(conversation: &str) -> Result<Slot> {
    let conversation = ConversationId::parse(conversation)?;
    Ok(Slot::of_conversation(&AppId::new(APP)?, &conversation))
}

/// A split under way. It goes on when this is dropped.
pub struct Splitting {
    task: JoinHandle<Result<SplitShardResponse>>,
}

impl Splitting {
    /// Waits for its end.
    pub async fn done(self) -> Result<SplitShardResponse> {
        self.task.await?
    }
}

impl Cluster {
    /// Begins to split a shard in the middle: any node that answers is asked, again and again. From here on the cluster
    /// is whole only with the child.
    pub async fn begin_split(&mut self, shard: u32) -> Result<Splitting> {
        let status = self.any_admin().await?.status().await?;
        let found = status.shards.iter().find(|found| found.shard == shard);
        self.begin_split_of(found.with_context(|| format!("no shard {shard}"))?)
    }

    /// The same of a shard as it was told of, where no node need answer now.
    pub fn begin_split_of(&mut self, parent: &ShardStatus) -> Result<Splitting> {
        let range = SlotRange::new(parent.first_slot, parent.last_slot);
        let middle = range.and_then(SlotRange::middle).context("too few slots")?;
        let asked = Asked::all_but(self, None);
        let shard = parent.shard;
        self.spec.shards += 1;
        Ok(Splitting {
            task: tokio::spawn(async move {
                // The same slot each time: what was done already is not done again.
                let split = |mut admin: Admin| async move { admin.split(shard, middle).await };
                let done = asked.until_done(SPLIT_WITHIN, split).await;
                done.with_context(|| format!("shard {shard} is not split"))
            }),
        })
    }
}
