//! Shards become two under load: with all nodes well, and while a replica dies, stands still, or comes back to find that
//! the log no longer has the split, and is fed by snapshot.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use parlance_proto::admin::v1::ShardStatus;
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::time::sleep;

use super::Stage;
use crate::cluster::START_WITHIN;
use crate::wait::until;

/// Before, in and after what a split does.
const DIES_AFTER_MS: std::ops::Range<u64> = 0..300;
/// Long enough for the others to elect a leader and to finish the split.
const AWAY_MS: std::ops::Range<u64> = 2500..4000;
/// Entries of parent and child after which neither log reaches back to a replica that missed the split.
const LEFT_BEHIND_ENTRIES: u64 = 350;
const LEFT_BEHIND_WITHIN: Duration = Duration::from_secs(120);
const MENDED_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn shards(stage: &mut Stage<'_>) -> Result<()> {
    all_well(stage).await?;
    its_leader_dies(stage).await?;
    its_leader_stands_still(stage).await?;
    a_replica_is_away(stage).await
}

async fn all_well(stage: &mut Stage<'_>) -> Result<()> {
    let parent = a_wide_shard(stage).await?.shard;
    stage.history.note(format!("split of shard {parent}"));
    let splitting = stage.cluster.begin_split(parent).await?;
    let child = splitting.done().await?.child;
    stage.history.note(format!("shard {child} is there"));
    stage.strike(format!("split of shard {parent}"));
    let within = MENDED_WITHIN + stage.patience;
    stage.cluster.wait_healthy(within).await
}

async fn its_leader_dies(stage: &mut Stage<'_>) -> Result<()> {
    let ShardStatus { shard, leader, .. } = a_wide_shard(stage).await?;
    stage.history.note(format!("split of shard {shard}"));
    let splitting = stage.cluster.begin_split(shard).await?;
    sleep(Duration::from_millis(stage.rng.random_range(DIES_AFTER_MS))).await;
    stage
        .history
        .note(format!("kill -9 of node {leader}, which led it"));
    stage.cluster.node(leader)?.kill()?;
    stage.strike(format!("kill of node {leader} in a split"));
    let child = splitting.done().await?.child;
    stage
        .history
        .note(format!("shard {child} is there; start of node {leader}"));
    stage.cluster.node(leader)?.start()?;
    stage.cluster.wait_node_ready(leader, START_WITHIN).await?;
    let within = MENDED_WITHIN + stage.patience;
    stage.cluster.wait_healthy(within).await
}

async fn its_leader_stands_still(stage: &mut Stage<'_>) -> Result<()> {
    let ShardStatus { shard, leader, .. } = a_wide_shard(stage).await?;
    stage.history.note(format!(
        "split of shard {shard}, node {leader}, which leads it, is frozen"
    ));
    let splitting = stage.cluster.begin_split(shard).await?;
    stage.cluster.node(leader)?.freeze()?;
    stage.strike(format!("freeze of node {leader} in a split"));
    sleep(Duration::from_millis(stage.rng.random_range(AWAY_MS))).await;
    stage.history.note(format!("node {leader} goes on"));
    stage.cluster.node(leader)?.thaw()?;
    let child = splitting.done().await?.child;
    stage.history.note(format!("shard {child} is there"));
    stage.cluster.wait_node_ready(leader, START_WITHIN).await?;
    let within = MENDED_WITHIN + stage.patience;
    stage.cluster.wait_healthy(within).await
}

async fn a_replica_is_away(stage: &mut Stage<'_>) -> Result<()> {
    let parent = a_wide_shard(stage).await?;
    let follower = parent.wanted.iter().find(|id| **id != parent.leader);
    let away = *follower.context("a shard with one replica")?;
    stage.history.note(format!(
        "kill -9 of node {away}, then split of shard {}",
        parent.shard
    ));
    stage.cluster.node(away)?.kill()?;
    let splitting = stage.cluster.begin_split(parent.shard).await?;
    let child = splitting.done().await?.child;
    for shard in [parent.shard, child] {
        left_behind(stage, shard).await?;
    }
    stage.history.note(format!(
        "the logs of shards {} and {child} have gone on; start of node {away}",
        parent.shard
    ));
    stage.cluster.node(away)?.start()?;
    stage.cluster.wait_node_ready(away, START_WITHIN).await?;
    let within = MENDED_WITHIN + stage.patience;
    stage.cluster.wait_healthy(within).await?;
    let installed = stage
        .cluster
        .node_metric(away, "parlance_node_snapshots_total", "installed")
        .await?;
    stage.history.note(format!(
        "node {away} has caught up; it installed {installed} snapshots"
    ));
    // Of the parent, from behind the split, and of the child.
    stage
        .strikes
        .add(format!("snapshots fed to node {away}"), installed as u64);
    if installed < 2.0 {
        bail!("node {away} caught up by the log: it was not short enough to test snapshots");
    }
    Ok(())
}

/// One of those with the most slots, so that what is left of it still has its share of the load.
pub(super) async fn a_wide_shard(stage: &mut Stage<'_>) -> Result<ShardStatus> {
    let status = stage.cluster.any_admin().await?.status().await?;
    let width = |shard: &ShardStatus| shard.last_slot - shard.first_slot;
    let widest = status.shards.iter().map(width).max().unwrap_or_default();
    let mut wide = status.shards;
    wide.retain(|shard| width(shard) + 1 >= widest); // they may differ by one slot
    Ok(wide.choose(stage.rng).context("no shard")?.clone())
}

/// Waits until so many more entries were applied that a replica which stopped before gets a snapshot.
async fn left_behind(stage: &mut Stage<'_>, shard: u32) -> Result<()> {
    let cluster = &*stage.cluster;
    let applied = async || {
        let status = cluster.any_admin().await?.status().await?;
        let found = status.shards.into_iter().find(|s| s.shard == shard);
        anyhow::Ok(found.context("the shard is gone")?.applied)
    };
    let goal = applied().await? + LEFT_BEHIND_ENTRIES;
    let what = format!("shard {shard} has applied entry {goal}");
    until(&what, LEFT_BEHIND_WITHIN, async || {
        let at = applied().await?;
        if at < goal {
            bail!("it is at {at}");
        }
        Ok(())
    })
    .await
}
