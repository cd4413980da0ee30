//! Nodes on disks that fail: nothing that was acknowledged is lost, or the node refuses with an error that says what to do.
//!
//! The disks are those of `tests/disk`. Where they cannot be mounted the tests say so and are skipped; in CI they fail.

mod all;
mod damaged;
mod errors;
mod full;
mod minority;
mod power;
mod read;
mod right;
mod rot;
mod slow;
mod spread;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::chaos::ChaosSpec;
use parlance_tests::cli::{FAILED, Shell};
use parlance_tests::client::{Connection, history_forward};
use parlance_tests::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, ClusterSpec, START_WITHIN};
use parlance_tests::disk::DiskOp;
use parlance_tests::logs::{self, Allowed};
use parlance_tests::wait::until;

const SHORT: Duration = Duration::from_secs(4);
const SOON: Duration = Duration::from_secs(40);

/// Nodes with short logs on disks of their own, and one shard.
fn on_disks(nodes: u64) -> ClusterSpec {
    ClusterSpec {
        nodes,
        gateways: 1,
        shards: 1,
        disks: true,
        ..ChaosSpec::new(0, SHORT, Vec::new()).cluster
    }
}

/// What nodes say of their disks, they say as errors.
fn complaints() -> Allowed {
    Allowed {
        processes: (1..=9).map(|id| format!("node-{id}")).collect(),
        ..Allowed::default()
    }
}

async fn alice(cluster: &Cluster) -> Result<Connection> {
    let gateways = cluster.gateway_addresses();
    Connection::logged_in(&gateways[0], &cluster.signer.token("alice")).await
}

/// Sends `count` messages to bob, one after the other, each again until it is stored.
async fn chat(alice: &mut Connection, topic: &str, count: u64) -> Result<String> {
    let mut conversation = String::new();
    for number in 0..count {
        let id = format!("{topic}-{number}");
        let text = format!("{topic} {}", "x".repeat(300));
        let sent = until("a message is stored", SOON, async || {
            Ok(alice.send("bob", &id, &text).await?)
        });
        conversation = sent.await?.conversation_id;
    }
    Ok(conversation)
}

async fn everything_is_read(
    alice: &mut Connection,
    conversation: &str,
    messages: u64,
) -> Result<()> {
    let mut next = 1;
    while next <= messages {
        let page = alice.history(history_forward(conversation, next)).await?;
        for event in &page.events {
            ensure!(event.seq == next, "{} instead of {next}", event.seq);
            next += 1;
        }
        ensure!(!page.events.is_empty(), "the log ends at {next}");
    }
    Ok(())
}

/// What is in files by now cannot be read. Files that come later can.
fn rows_cannot_be_read(cluster: &Cluster, node_id: u64) -> Result<()> {
    let disk = cluster.disk(node_id)?;
    let files = disk.files("data/state/*.sst")?;
    ensure!(!files.is_empty(), "node {node_id} has no rows in files");
    let mut files = files.iter();
    files.try_for_each(|file| disk.fail(DiskOp::Read, file))
}

/// The leader of the one shard.
async fn leader(cluster: &Cluster) -> Result<u64> {
    until("the shard has a leader", SOON, async || {
        let status = cluster.any_admin().await?.status().await?;
        let shard = status.shards.first().context("no shard")?;
        ensure!(shard.leader != 0, "{shard:?}");
        Ok(shard.leader)
    })
    .await
}

/// The node ends by itself, with an error that says all of these. It is not killed by a signal either.
async fn ends_saying(cluster: &mut Cluster, node_id: u64, words: &[&str]) -> Result<()> {
    let node = cluster.node(node_id)?;
    let status = node.wait_for_end(SOON).await?;
    let said = logs::read(node.log())?;
    ensure!(
        status.code() == Some(1),
        "ended with {status}:\n{}",
        node.tail(20)
    );
    for word in words {
        ensure!(
            said.contains(word),
            "{word:?} is not said:\n{}",
            node.tail(20)
        );
    }
    Ok(())
}

/// All nodes are killed, those that are left, and started.
async fn all_started_again(cluster: &mut Cluster) -> Result<()> {
    cluster.kill_all_nodes()?;
    cluster.start_all_nodes()?;
    cluster.wait_nodes_ready(START_WITHIN).await?;
    cluster.wait_healthy(START_WITHIN).await
}

/// A replica that has stopped: in the check, in readiness and in the metrics of its node.
async fn stopped_shows(cluster: &Cluster, node_id: u64, shard: u32) -> Result<()> {
    let shell = Shell::new(cluster)?;
    until("the check says it", SOON, async || {
        let said = shell.run(&["cluster", "check"]).await?;
        let text = format!("a replica has stopped on node {node_id}");
        ensure!(
            said.code == FAILED && said.stdout.contains(&text),
            "{said:?}"
        );
        Ok(())
    })
    .await?;
    let (code, body) = http_get(cluster.address.node_ops(node_id), "/readyz").await?;
    ensure!(
        code == 503 && body.contains(&format!("shard {shard} has stopped")),
        "{body}"
    );
    until("the metric says it", SOON, async || {
        let metric = "parlance_node_replicas{";
        let stopped = cluster.node_metric(node_id, metric, "stopped").await?;
        ensure!(stopped >= 1.0, "{stopped}");
        Ok(())
    })
    .await
}
