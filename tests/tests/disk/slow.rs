//! A disk that takes long or does not answer: its node leads nothing, and the others go on.

use anyhow::{Context, Result, ensure};
use parlance_tests::chaos::ChaosSpec;
use parlance_tests::cluster::{ClusterSpec, START_WITHIN};
use parlance_tests::disk::{self, DiskOp};
use parlance_tests::faults::Fault;
use parlance_tests::story::{must_pass, tell};
use parlance_tests::wait::until;

use crate::{SHORT, SOON, alice, chat, complaints, leader, on_disks};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_does_not_answer_leads_nothing_and_nobody_waits_for_it() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    // Logs of the usual length: one that is cut back meanwhile would stop the leader by itself.
    let spec = ClusterSpec {
        node_settings: toml::Table::new(),
        ..on_disks(3)
    };
    tell(spec, complaints(), async |cluster| {
        let silent = leader(cluster).await?;
        cluster.disk(silent)?.hang(DiskOp::Sync, "data/log/*")?;
        let other = cluster.nodes.keys().copied().find(|id| *id != silent);
        let other = other.context("no other node")?;
        until("another leads", SOON, async || {
            let status = cluster.admin(other).await?.status().await?;
            let shard = status.shards.first().context("no shard")?;
            ensure!(shard.leader != 0 && shard.leader != silent, "{shard:?}");
            Ok(())
        })
        .await?;
        let mut alice = alice(cluster).await?;
        chat(&mut alice, "meanwhile", 20).await?;
        let disk = cluster.disk(silent)?;
        let struck = disk.struck()?;
        ensure!(struck.contains("sync hang"), "{struck:?}");
        disk.heal()?;
        cluster.wait_node_ready(silent, START_WITHIN).await?;
        cluster.wait_healthy(START_WITHIN).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_silent_disks_break_no_promise() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    must_pass(ChaosSpec::new(821, SHORT, vec![Fault::SlowDisk]))
        .await
        .map(drop)
}
