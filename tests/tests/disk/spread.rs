//! Damage that is spread over all nodes, while each shard has most of its replicas whole: all goes on, and nothing is lost.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use parlance_tests::client::Connection;
use parlance_tests::cluster::shards::{owner, slot_of};
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::disk;
use parlance_tests::wait::until;
use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{SOON, alice, everything_is_read, on_disks, stopped_shows};

const SHARDS: u32 = 3;
/// Of each conversation. All of them are equally long, so that each shard has its third of every file of rows.
const MESSAGES: u64 = 110;
/// Percent of a shard's third that are left alone at each of its ends.
const MARGIN: u64 = 8;
const TEXT_BYTES: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_another_shard_on_each_node_loses_nothing() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let spec = ClusterSpec {
        shards: SHARDS,
        ..on_disks(3)
    };
    let mut cluster = Cluster::start(spec).await?;
    let mut alice = alice(&cluster).await?;
    let conversations = one_of_each_shard(&cluster, &mut alice).await?;
    for number in 1..MESSAGES {
        for (peer, _) in conversations.values() {
            say(&mut alice, peer, number).await?;
        }
    }
    let damaged = damage_where_it_leads(&cluster).await?;
    for (_, conversation) in conversations.values() {
        everything_is_read(&mut alice, conversation, MESSAGES).await?;
    }
    for (node_id, shard) in &damaged {
        stopped_shows(&cluster, *node_id, *shard).await?;
    }
    cluster.check_all_run()?;
    for (peer, _) in conversations.values() {
        say(&mut alice, peer, MESSAGES).await?;
    }
    for (_, conversation) in conversations.values() {
        everything_is_read(&mut alice, conversation, MESSAGES + 1).await?;
    }
    Ok(())
}

async fn say(alice: &mut Connection, peer: &str, number: u64) -> Result<String> {
    let id = format!("{peer}-{number}");
    let text = noise(number);
    let sent = until("a message is stored", SOON, async || {
        Ok(alice.send(peer, &id, &text).await?)
    });
    Ok(sent.await?.conversation_id)
}

/// Text that does not get smaller when it is stored.
fn noise(number: u64) -> String {
    let letters = StdRng::seed_from_u64(number).sample_iter(Alphanumeric);
    letters.take(TEXT_BYTES).map(char::from).collect()
}

/// With whom alice chats in each shard, and where.
async fn one_of_each_shard(
    cluster: &Cluster,
    alice: &mut Connection,
) -> Result<BTreeMap<u32, (String, String)>> {
    let status = cluster.any_admin().await?.status().await?;
    let mut found = BTreeMap::new();
    for number in 0.. {
        if found.len() == SHARDS as usize {
            break;
        }
        let peer = format!("peer-{number}");
        let conversation = say(alice, &peer, 0).await?;
        let shard = owner(&status, slot_of(&conversation)?)?.shard;
        found.entry(shard).or_insert((peer, conversation));
    }
    Ok(found)
}

/// Each node's rows of a shard that it leads, each of another shard. Answers which.
async fn damage_where_it_leads(cluster: &Cluster) -> Result<BTreeMap<u64, u32>> {
    let leads = until("each node leads a shard", SOON, async || {
        let status = cluster.any_admin().await?.status().await?;
        let mut shards: Vec<_> = status.shards.iter().collect();
        shards.sort_by_key(|shard| shard.first_slot);
        let third = (0..).zip(&shards);
        let leads: BTreeMap<u64, (u64, u32)> = third
            .map(|(third, shard)| (shard.leader, (third, shard.shard)))
            .collect();
        ensure!(leads.keys().eq(cluster.nodes.keys()), "{leads:?}");
        Ok(leads)
    })
    .await?;
    for (node_id, (third, shard)) in &leads {
        let (from, to) = (third * 100 / 3 + MARGIN, (third + 1) * 100 / 3 - MARGIN);
        let disk = cluster.disk(*node_id)?;
        let places = disk.rot("data/state/*.sst", from..to);
        let places = places.with_context(|| format!("no rows of shard {shard} are in files"))?;
        eprintln!("node {node_id}, shard {shard}: {places}");
    }
    Ok(leads
        .into_iter()
        .map(|(node, (_, shard))| (node, shard))
        .collect())
}
