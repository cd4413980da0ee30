//! Rows that a running node cannot read any more: its replica stops and says so, another answers, and all is well again
//! once the node is started on a sound disk, or replaced.

use anyhow::{Context, Result, ensure};
use parlance_tests::client::CallError;
use parlance_tests::client::history_forward;
use parlance_tests::cluster::{Cluster, START_WITHIN};
use parlance_tests::disk;
use parlance_tests::logs;
use parlance_tests::wait::until;

use crate::{
    SOON, alice, all_started_again, chat, everything_is_read, on_disks, rows_cannot_be_read,
    stopped_shows,
};

/// More than a log that is short, fewer than two of them: most are in files, which nobody merges.
const MESSAGES: u64 = 150;
/// Another is elected meanwhile.
const AFTERWARDS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_cannot_read_its_rows_stops_and_another_answers() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "before", MESSAGES).await?;
    let failing = settled_leader(&cluster).await?;
    rows_cannot_be_read(&cluster, failing)?;
    // Whoever reads waits, and does not see the failure.
    everything_is_read(&mut alice, &conversation, MESSAGES).await?;
    let struck = cluster.disk(failing)?.struck()?;
    ensure!(struck.contains("read fail"), "{struck:?}");
    stopped_shows(&cluster, failing, 1).await?;
    says_what_to_do(&mut cluster, failing)?;
    chat(&mut alice, "meanwhile", AFTERWARDS).await?;
    let new = cluster.replace_live_node(failing, SOON).await?;
    cluster.wait_node_ready(new, START_WITHIN).await?;
    cluster.wait_healthy(SOON * 2).await?;
    everything_is_read(&mut alice, &conversation, MESSAGES + AFTERWARDS).await
}

/// Nobody has rows that can be read: clients are told to come again, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_no_disk_can_be_read_reads_are_refused_and_nothing_is_lost() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "before", MESSAGES).await?;
    for node_id in cluster.nodes.keys() {
        rows_cannot_be_read(&cluster, *node_id)?;
    }
    match alice.history(history_forward(&conversation, 1)).await {
        Err(CallError::Refused(error)) => ensure!(error.is_retryable(), "{error:?}"),
        other => anyhow::bail!("{other:?}"),
    }
    let said = until("a replica has stopped", SOON, async || {
        // Whoever compares replicas reads all their rows.
        for node_id in cluster.nodes.keys() {
            let digest = cluster.admin(*node_id).await?.digest(1).await;
            ensure!(
                digest.is_err(),
                "node {node_id} has read its rows: {digest:?}"
            );
        }
        for (node_id, node) in &cluster.nodes {
            let said = logs::read(node.log())?;
            ensure!(
                said.contains("a replica has stopped"),
                "node {node_id} goes on"
            );
        }
        Ok(())
    });
    said.await?;
    cluster.check_all_run()?;
    for node_id in cluster.nodes.keys().copied().collect::<Vec<_>>() {
        says_what_to_do(&mut cluster, node_id)?;
        cluster.disk(node_id)?.heal()?;
    }
    all_started_again(&mut cluster).await?;
    everything_is_read(&mut alice, &conversation, MESSAGES).await
}

/// The one that leadership is handed to, and stays with.
async fn settled_leader(cluster: &Cluster) -> Result<u64> {
    until("the preferred leader leads", SOON, async || {
        let status = cluster.any_admin().await?.status().await?;
        let shard = status.shards.first().context("no shard")?;
        ensure!(shard.wanted.first() == Some(&shard.leader), "{shard:?}");
        Ok(shard.leader)
    })
    .await
}

fn says_what_to_do(cluster: &mut Cluster, node_id: u64) -> Result<()> {
    let said = logs::read(cluster.node(node_id)?.log())?;
    for words in ["start the node again", "parlance node replace"] {
        ensure!(said.contains(words), "node {node_id} does not say: {words}");
    }
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}
