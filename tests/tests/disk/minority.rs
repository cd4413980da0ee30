//! Two of five disks fail in the same way at once, in each way in turn, while others chat. A shard has three replicas: some
//! lose their majority, and go on when it is back.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::cluster::{Cluster, ClusterSpec, START_WITHIN};
use parlance_tests::disk::{self, DiskOp};
use parlance_tests::story::tell;
use parlance_tests::wait::until;
use tokio::time::sleep;

use crate::{SOON, complaints, on_disks, rows_cannot_be_read};

/// Long enough for leaders to change.
const TROUBLED: Duration = Duration::from_secs(3);
const OUT: u64 = 300 << 20;
const SLOW_SYNC_MS: u64 = 400;

fn five() -> ClusterSpec {
    ClusterSpec {
        shards: 5,
        ..on_disks(5)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_power_of_two_of_five_nodes_fails_and_nothing_is_lost() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    tell(five(), complaints(), async |cluster| {
        for (seed, pair) in (0..).zip([[1, 2], [4, 5]]) {
            cluster.cut_power(&pair, seed)?;
            sleep(TROUBLED).await;
            for node_id in pair {
                cluster.node(node_id)?.start()?;
            }
            well_again(cluster, &[]).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_disks_that_fail_harm_nobody() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    tell(five(), complaints(), async |cluster| {
        for (op, pair) in [(DiskOp::Sync, [2, 3]), (DiskOp::Write, [3, 4])] {
            for node_id in pair {
                cluster.disk(node_id)?.fail(op, "data/*")?;
            }
            struck(cluster, &pair, "fail").await?;
            well_again(cluster, &pair).await?;
        }
        let pair = [5, 1];
        for node_id in pair {
            rows_cannot_be_read(cluster, node_id)?;
        }
        for shard in 1..=5 {
            for node_id in pair {
                // It reads all rows, if there is a replica of the shard.
                let _ = cluster.admin(node_id).await?.digest(shard).await;
            }
        }
        struck(cluster, &pair, "read fail").await?;
        sleep(TROUBLED).await;
        for node_id in pair {
            cluster.node(node_id)?.kill()?;
        }
        well_again(cluster, &pair).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_disks_that_are_full_slow_or_silent_harm_nobody() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    tell(five(), complaints(), async |cluster| {
        let pair = [1, 2];
        for node_id in pair {
            cluster.disk(node_id)?.fill(OUT)?;
        }
        for node_id in pair {
            until("a full disk is noticed", SOON, async || {
                let name = "parlance_node_disk_lacking";
                let lacking = cluster.node_metric(node_id, name, "").await?;
                ensure!(lacking > 0.0, "node {node_id}: {name} is {lacking}");
                Ok(())
            })
            .await?;
        }
        sleep(TROUBLED).await;
        well_again(cluster, &pair).await?;
        for node_id in pair {
            let disk = cluster.disk(node_id)?;
            disk.slow(DiskOp::Sync, "*", SLOW_SYNC_MS)?;
        }
        struck(cluster, &pair, "sync slow").await?;
        sleep(TROUBLED).await;
        well_again(cluster, &pair).await?;
        for node_id in pair {
            cluster.disk(node_id)?.hang(DiskOp::Sync, "*")?;
        }
        struck(cluster, &pair, "sync hang").await?;
        sleep(TROUBLED).await;
        well_again(cluster, &pair).await
    })
    .await
}

async fn struck(cluster: &Cluster, node_ids: &[u64], what: &str) -> Result<()> {
    for node_id in node_ids {
        until("the fault has struck", SOON, async || {
            let struck = cluster.disk(*node_id)?.struck()?;
            ensure!(struck.contains(what), "node {node_id}: {struck:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// These disks work again. A node that ends over them is started, as whoever looks after it would.
async fn well_again(cluster: &mut Cluster, node_ids: &[u64]) -> Result<()> {
    for node_id in node_ids {
        cluster.disk(*node_id)?.heal()?;
    }
    // One that is about to end may still be ready for a moment.
    until(
        "every node serves and all is well",
        START_WITHIN * 2,
        async || {
            for node in cluster.nodes.values_mut() {
                node.ended()?;
                if !node.runs() {
                    node.start()?;
                }
            }
            cluster.wait_nodes_ready(Duration::from_secs(5)).await?;
            cluster.wait_healthy(Duration::from_secs(10)).await
        },
    )
    .await
}
