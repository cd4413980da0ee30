//! Reads, writes and syncs that fail: the node ends and says why, or goes on; the others do.

use anyhow::{Result, bail, ensure};
use parlance_tests::cluster::{Cluster, START_WITHIN, STOP_WITHIN};
use parlance_tests::disk::{self, DiskOp};
use parlance_tests::story::tell;
use parlance_tests::wait::until;

use crate::{SOON, alice, chat, complaints, ends_saying, leader, on_disks};

/// After a failed sync nobody can say what is on the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_or_synced_ends_its_node_and_nobody_else() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    tell(on_disks(3), complaints(), async |cluster| {
        for op in [DiskOp::Sync, DiskOp::Write] {
            let failing = leader(cluster).await?;
            cluster.disk(failing)?.fail(op, "data/log/*.log")?;
            ends_saying(
                cluster,
                failing,
                &["the raft log failed", "start the node again"],
            )
            .await?;
            let mut alice = alice(cluster).await?;
            chat(&mut alice, &format!("{op:?}"), 20).await?;
            started_again(cluster, failing).await?;
        }
        Ok(())
    })
    .await
}

/// RocksDB takes no more writes after one that failed in the background: only another start helps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_synced_ends_its_node_and_nobody_else() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    tell(on_disks(3), complaints(), async |cluster| {
        let failing = leader(cluster).await?;
        cluster
            .disk(failing)?
            .fail(DiskOp::Sync, "data/state/*.sst")?;
        let mut alice = alice(cluster).await?;
        chat(&mut alice, "until a flush", 200).await?;
        ends_saying(
            cluster,
            failing,
            &["the state store", "start the node again"],
        )
        .await?;
        chat(&mut alice, "meanwhile", 20).await?;
        started_again(cluster, failing).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_state_cannot_be_synced_stops_in_order_when_it_is_told_to() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(1)).await?;
    let mut alice = alice(&cluster).await?;
    cluster.disk(1)?.fail(DiskOp::Sync, "data/state/*.sst")?;
    let chatting = chat(&mut alice, "until a flush", 500);
    let flushed = until("a flush has failed", SOON, async || {
        let struck = cluster.disk(1)?.struck()?;
        ensure!(struck.contains("sync fail"), "{struck:?}");
        Ok(())
    });
    tokio::select! {
        flushed = flushed => flushed?,
        chatted = chatting => bail!("no flush: {chatted:?}"),
    }
    cluster.node(1)?.stop(STOP_WITHIN).await?;
    started_again(&mut cluster, 1).await
}

async fn started_again(cluster: &mut Cluster, node_id: u64) -> Result<()> {
    cluster.disk(node_id)?.heal()?;
    cluster.node(node_id)?.start()?;
    cluster.wait_node_ready(node_id, START_WITHIN).await?;
    cluster.wait_healthy(START_WITHIN).await
}
