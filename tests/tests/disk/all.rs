//! All disks at once, or two of five: not to be read or written, slow, silent. Nothing that was acknowledged is lost, and all
//! goes on once they are well.

use anyhow::{Result, bail, ensure};
use parlance_tests::client::CallError;
use parlance_tests::cluster::{Cluster, START_WITHIN};
use parlance_tests::disk::{self, DiskOp};
use parlance_tests::wait::until;

use crate::right::{MESSAGES, all_is_as_it_was, having_the_shard, right_or_refused};
use crate::{SOON, alice, all_started_again, chat, ends_saying, on_disks};

const SLOW_SYNC_MS: u64 = 400;

/// After a failed write or sync nobody can say what is on the disk: who meets one ends, and what was acknowledged was on the
/// disks before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_cannot_be_written_or_synced_end_their_nodes_and_lose_nothing() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let conversation = chat(&mut alice(&cluster).await?, "all", MESSAGES).await?;
    for op in [DiskOp::Sync, DiskOp::Write] {
        let mut alice = alice(&cluster).await?;
        for node_id in cluster.nodes.keys() {
            cluster.disk(*node_id)?.fail(op, "data/log/*.log")?;
        }
        let number = format!("all-{MESSAGES}");
        let Err(CallError::Refused(error)) = alice.send("bob", &number, "no disk takes it").await
        else {
            bail!("a message was stored, or its sender was cut off");
        };
        ensure!(error.is_retryable(), "{error:?}");
        // Whoever is left alone has nothing to write, and need not notice.
        let mut noticed = 0;
        for node_id in cluster.nodes.keys().copied().collect::<Vec<_>>() {
            if cluster.node(node_id)?.has_ended()? {
                let words = ["the raft log failed", "start the node again"];
                ends_saying(&mut cluster, node_id, &words).await?;
                noticed += 1;
            }
            cluster.disk(node_id)?.heal()?;
        }
        ensure!(noticed > 0, "no node has ended");
        all_started_again(&mut cluster).await?;
        all_is_as_it_was(&cluster, &conversation).await?;
    }
    Ok(())
}

/// Each node that writes ends by itself. The last one has nobody to agree with, and need not come to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_that_cannot_be_synced_end_their_nodes_and_lose_nothing() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "all", MESSAGES).await?;
    for node_id in cluster.nodes.keys() {
        let disk = cluster.disk(*node_id)?;
        disk.fail(DiskOp::Sync, "data/state/*.sst")?;
    }
    let chatting = chat(&mut alice, "until a flush", 100 * MESSAGES);
    let ended = until("two nodes have ended", SOON, async || {
        let mut ended = Vec::new();
        for (node_id, node) in &mut cluster.nodes {
            if node.has_ended()? {
                ended.push(*node_id);
            }
        }
        ensure!(ended.len() >= 2, "only {ended:?}");
        Ok(ended)
    });
    let ended = tokio::select! {
        ended = ended => ended?,
        chatted = chatting => bail!("they serve on: {chatted:?}"),
    };
    for node_id in ended {
        let words = ["the state store", "start the node again"];
        ends_saying(&mut cluster, node_id, &words).await?;
    }
    for node_id in cluster.nodes.keys() {
        cluster.disk(*node_id)?.heal()?;
    }
    all_started_again(&mut cluster).await?;
    all_is_as_it_was(&cluster, &conversation).await
}

/// Slow for everybody: nobody ends, gives up or loses anything over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_are_all_slow_are_waited_for() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "all", MESSAGES).await?;
    for node_id in cluster.nodes.keys() {
        let disk = cluster.disk(*node_id)?;
        disk.slow(DiskOp::Sync, "*", SLOW_SYNC_MS)?;
    }
    chat(&mut alice, "slowly", 5).await?;
    all_is_as_it_was(&cluster, &conversation).await?;
    for node_id in cluster.nodes.keys() {
        let struck = cluster.disk(*node_id)?.struck()?;
        ensure!(struck.contains("sync slow"), "node {node_id}: {struck:?}");
        cluster.disk(*node_id)?.heal()?;
    }
    cluster.check_all_run()
}

/// Nobody can take over: senders are told to come again, and it goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_are_all_silent_are_waited_for_and_lose_nothing() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "all", MESSAGES).await?;
    for node_id in cluster.nodes.keys() {
        cluster.disk(*node_id)?.hang(DiskOp::Sync, "*")?;
    }
    let number = format!("all-{MESSAGES}");
    let refused = alice.send("bob", &number, "no disk takes it").await;
    let Err(CallError::Refused(error)) = refused else {
        bail!("{refused:?}");
    };
    ensure!(error.is_retryable(), "{error:?}");
    for node_id in cluster.nodes.keys() {
        let struck = cluster.disk(*node_id)?.struck()?;
        ensure!(struck.contains("sync hang"), "node {node_id}: {struck:?}");
        cluster.disk(*node_id)?.heal()?;
    }
    cluster.wait_nodes_ready(START_WITHIN).await?;
    cluster.wait_healthy(START_WITHIN).await?;
    all_is_as_it_was(&cluster, &conversation).await?;
    cluster.check_all_run()
}

/// Nothing is damaged: all of it is there once the disks can be read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_cannot_be_read_end_their_nodes_and_lose_nothing() -> Result<()> {
    cannot_be_read(3, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_disks_that_cannot_be_read_end_their_nodes_and_lose_nothing() -> Result<()> {
    cannot_be_read(5, 2).await
}

async fn cannot_be_read(nodes: u64, failing: usize) -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(nodes)).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "all", MESSAGES).await?;
    let replicas = having_the_shard(&cluster).await?;
    let failing = &replicas[..failing];
    for pattern in ["data/state/*.sst", "data/log/*.log"] {
        cluster.kill_all_nodes()?;
        for node_id in failing {
            cluster.disk(*node_id)?.fail(DiskOp::Read, pattern)?;
        }
        right_or_refused(&mut cluster, &conversation, &replicas).await?;
        cluster.kill_all_nodes()?;
        for node_id in failing {
            let struck = cluster.disk(*node_id)?.struck()?;
            ensure!(struck.contains("read fail"), "node {node_id}: {struck:?}");
            cluster.disk(*node_id)?.heal()?;
        }
        all_started_again(&mut cluster).await?;
        all_is_as_it_was(&cluster, &conversation).await?;
    }
    Ok(())
}
