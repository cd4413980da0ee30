//! Bits that flip and blocks that are old, on all disks at once or on two of five: what is answered is right, and what cannot
//! be is refused.

use anyhow::Result;
use parlance_tests::cluster::Cluster;
use parlance_tests::disk;

use crate::right::{MESSAGES, having_the_shard, right_or_refused};
use crate::{alice, chat, on_disks};

/// A node has as many tables at most; each gets a bit or two.
const FLIPS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bits_that_flip_on_all_disks_give_no_wrong_answer() -> Result<()> {
    bits_flip(3, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bits_that_flip_on_two_of_five_disks_give_no_wrong_answer() -> Result<()> {
    bits_flip(5, 2).await
}

async fn bits_flip(nodes: u64, damaged: usize) -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(nodes)).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "all", MESSAGES).await?;
    let replicas = having_the_shard(&cluster).await?;
    cluster.kill_all_nodes()?;
    for node_id in replicas.iter().take(damaged) {
        for seed in 0..FLIPS {
            let seed = seed + node_id * FLIPS;
            cluster.disk(*node_id)?.flip("data/state/*.sst", seed)?;
        }
    }
    right_or_refused(&mut cluster, &conversation, &replicas).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_blocks_on_all_disks_give_no_wrong_answer() -> Result<()> {
    old_blocks(3, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_blocks_on_two_of_five_disks_give_no_wrong_answer() -> Result<()> {
    old_blocks(5, 2).await
}

async fn old_blocks(nodes: u64, damaged: usize) -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(nodes)).await?;
    let mut alice = alice(&cluster).await?;
    let replicas = having_the_shard(&cluster).await?;
    let damaged = &replicas[..damaged];
    for node_id in damaged {
        cluster.disk(*node_id)?.remember()?;
    }
    let conversation = chat(&mut alice, "all", MESSAGES).await?;
    cluster.kill_all_nodes()?;
    for node_id in damaged {
        let disk = cluster.disk(*node_id)?;
        let place = disk.grow_old("data/state/*.sst", *node_id)?;
        eprintln!("node {node_id} has an old block in {place}");
    }
    right_or_refused(&mut cluster, &conversation, &replicas).await
}
