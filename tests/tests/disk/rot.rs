//! Flipped bits and old blocks: what was damaged is never served, and is mended from the others.

use anyhow::{Context, Result, bail, ensure};
use parlance_tests::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, START_WITHIN};
use parlance_tests::disk;
use parlance_tests::logs;
use parlance_tests::wait::until;

use crate::{SOON, alice, chat, everything_is_read, leader, on_disks, stopped_shows};

const MESSAGES: u64 = 600;

/// The leader's rows are damaged under it: its replica stops, and another that has them whole answers and sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_rows_are_not_served_and_not_sent_to_a_replica_that_needs_a_snapshot() -> Result<()>
{
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let damaged = leader(&cluster).await?;
    let others = cluster.nodes.keys().copied().filter(|id| *id != damaged);
    let late = others.max().context("no other node")?;
    cluster.node(late)?.kill()?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "before", MESSAGES).await?;
    ensure!(leader(&cluster).await? == damaged, "the leader has changed");
    damage_all_tables(&cluster, damaged)?;
    // It needs what only a snapshot can give it.
    cluster.node(late)?.start()?;
    cluster.wait_node_ready(late, START_WITHIN).await?;
    until(
        "the damaged replica has stopped, another leads",
        SOON,
        async || {
            let status = cluster.admin(late).await?.status().await?;
            let shard = status.shards.first().context("no shard")?;
            ensure!(shard.leader != 0 && shard.leader != damaged, "{shard:?}");
            ensure!(shard.health == "stopped", "{shard:?}");
            Ok(())
        },
    )
    .await?;
    stopped_shows(&cluster, damaged, 1).await?;
    let said = logs::read(cluster.node(damaged)?.log())?;
    ensure!(
        said.contains("parlance node replace"),
        "it does not say what to do"
    );
    let tries = said
        .matches("the rows for a snapshot cannot be read")
        .count();
    ensure!(
        tries <= 2,
        "it has tried to send what it cannot read {tries} times"
    );
    everything_is_read(&mut alice, &conversation, MESSAGES).await?;
    let new = cluster.replace_node(damaged).await?;
    cluster.wait_node_ready(new, START_WITHIN).await?;
    cluster.wait_healthy(SOON * 2).await?;
    everything_is_read(&mut alice, &conversation, MESSAGES).await
}

fn damage_all_tables(cluster: &Cluster, node_id: u64) -> Result<()> {
    for seed in 0..40 {
        cluster.disk(node_id)?.flip("data/state/*.sst", seed)?;
    }
    Ok(())
}

/// Writes of a stopped node that never reached the medium, in each kind of file: it serves what is right, or says what
/// to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_blocks_are_refused_or_do_no_harm() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let mut alice = alice(&cluster).await?;
    let mut all = 0;
    let mut conversation = String::new();
    for (round, pattern) in ["data/state/*.sst", "data/*/MANIFEST*", "data/log/*.log"]
        .into_iter()
        .enumerate()
    {
        let old = *cluster.nodes.keys().next().context("no node")?;
        cluster.disk(old)?.remember()?;
        conversation = chat(&mut alice, pattern, MESSAGES / 3).await?;
        all += MESSAGES / 3;
        cluster.node(old)?.kill()?;
        let place = cluster.disk(old)?.grow_old(pattern, round as u64)?;
        eprintln!("node {old} has an old block in {place}");
        cluster.node(old)?.start()?;
        if serves_or_says_what_to_do(&mut cluster, old).await? {
            continue;
        }
        let new = cluster.replace_node(old).await?;
        cluster.wait_node_ready(new, START_WITHIN).await?;
        cluster.wait_healthy(SOON * 2).await?;
    }
    ensure!(all == MESSAGES, "{all} messages");
    everything_is_read(&mut alice, &conversation, MESSAGES).await
}

/// False: it has to be replaced, and said so.
async fn serves_or_says_what_to_do(cluster: &mut Cluster, node_id: u64) -> Result<bool> {
    let address = cluster.address.node_ops(node_id);
    let node = cluster.node(node_id)?;
    let serves = until("the node ends or serves", SOON, async || {
        if node.ended()?.is_some() {
            return Ok(false);
        }
        match http_get(address, "/readyz").await? {
            (200, _) => Ok(true),
            (_, body) if body.contains("has stopped") => Ok(false),
            (status, body) => bail!("{status}: {body}"),
        }
    })
    .await?;
    let said = logs::read(cluster.node(node_id)?.log())?;
    ensure!(!said.contains("panicked"), "{said}");
    ensure!(
        serves || said.contains("parlance node replace"),
        "it does not say what to do:\n{said}"
    );
    Ok(serves)
}
