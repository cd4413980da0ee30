//! All disks at once, or two of five: damaged, old in places, not to be read or written, silent. What is answered is right,
//! and what cannot be is refused.

use anyhow::{Context, Result, bail, ensure};
use parlance_tests::client::{CallError, Connection, history_forward};
use parlance_tests::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, START_WITHIN};
use parlance_tests::disk::{self, DiskOp};
use parlance_tests::logs;
use parlance_tests::wait::until;

use crate::{SOON, alice, chat, ends_saying, on_disks};

const MESSAGES: u64 = 300;
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
    let damaged = having_the_shard(&cluster, damaged).await?;
    cluster.kill_all_nodes()?;
    for node_id in damaged {
        for seed in 0..FLIPS {
            let seed = seed + node_id * FLIPS;
            cluster.disk(node_id)?.flip("data/state/*.sst", seed)?;
        }
    }
    right_or_refused(&mut cluster, &conversation).await
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
    let damaged = having_the_shard(&cluster, damaged).await?;
    for node_id in &damaged {
        cluster.disk(*node_id)?.remember()?;
    }
    let conversation = chat(&mut alice, "all", MESSAGES).await?;
    cluster.kill_all_nodes()?;
    for node_id in damaged {
        let place = cluster
            .disk(node_id)?
            .grow_old("data/state/*.sst", node_id)?;
        eprintln!("node {node_id} has an old block in {place}");
    }
    right_or_refused(&mut cluster, &conversation).await
}

/// So many nodes that have a replica of the one shard.
async fn having_the_shard(cluster: &Cluster, count: usize) -> Result<Vec<u64>> {
    let status = cluster.any_admin().await?.status().await?;
    let shard = status.shards.first().context("no shard")?;
    Ok(shard.wanted.iter().copied().take(count).collect())
}

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
        cluster.kill_all_nodes()?;
        cluster.start_all_nodes()?;
        cluster.wait_nodes_ready(START_WITHIN).await?;
        cluster.wait_healthy(START_WITHIN).await?;
        let read = read(&cluster, &conversation).await?;
        ensure!(read == MESSAGES, "{read} of {MESSAGES} were read");
    }
    Ok(())
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
    let read = read(&cluster, &conversation).await?;
    ensure!(read == MESSAGES, "{read} of {MESSAGES} were read");
    cluster.check_all_run()
}

/// Nothing is damaged: all of it is there once the disks can be read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_cannot_be_read_end_their_nodes_and_lose_nothing() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "all", MESSAGES).await?;
    for pattern in ["data/state/*.sst", "data/log/*.log"] {
        cluster.kill_all_nodes()?;
        for node_id in cluster.nodes.keys() {
            cluster.disk(*node_id)?.fail(DiskOp::Read, pattern)?;
        }
        right_or_refused(&mut cluster, &conversation).await?;
        cluster.kill_all_nodes()?;
        for node_id in cluster.nodes.keys() {
            let struck = cluster.disk(*node_id)?.struck()?;
            ensure!(struck.contains("read fail"), "node {node_id}: {struck:?}");
            cluster.disk(*node_id)?.heal()?;
        }
        cluster.start_all_nodes()?;
        cluster.wait_nodes_ready(START_WITHIN).await?;
        cluster.wait_healthy(START_WITHIN).await?;
        let read = read(&cluster, &conversation).await?;
        ensure!(read == MESSAGES, "{read} of {MESSAGES} were read");
    }
    Ok(())
}

/// Each node serves, or has stopped and says what to do. Where enough of them serve, all is as it was.
async fn right_or_refused(cluster: &mut Cluster, conversation: &str) -> Result<()> {
    cluster.start_all_nodes()?;
    let mut serving = 0;
    for node_id in cluster.nodes.keys().copied().collect::<Vec<_>>() {
        serving += usize::from(serves(cluster, node_id).await?);
    }
    let read = read(cluster, conversation).await?;
    eprintln!("{serving} nodes serve; {read} of {MESSAGES} were read, the others refused");
    for (node_id, node) in &cluster.nodes {
        let said = logs::read(node.log())?;
        ensure!(!said.contains("panicked"), "node {node_id}:\n{said}");
    }
    Ok(())
}

/// False: it has ended, or a replica of it has stopped, and its log says what to do.
async fn serves(cluster: &mut Cluster, node_id: u64) -> Result<bool> {
    let address = cluster.address.node_ops(node_id);
    let node = cluster.node(node_id)?;
    let serves = until("the node ends, stops or waits", SOON, async || {
        if let Some(status) = node.ended()? {
            ensure!(status.code() == Some(1), "ended with {status}");
            return Ok(false);
        }
        match http_get(address, "/readyz").await? {
            (200, _) => Ok(true),
            (_, body) if body.contains("has stopped") => Ok(false),
            // Those that could have led with it have ended.
            (_, body) if body.contains("leader") => Ok(true),
            (status, body) => bail!("{status}: {body}"),
        }
    })
    .await?;
    let said = logs::read(node.log())?;
    let advice = ["parlance node replace", "start the node again"];
    ensure!(
        serves || advice.iter().any(|text| said.contains(text)),
        "node {node_id} does not say what to do:\n{}",
        node.tail(20)
    );
    Ok(serves)
}

/// How many events can be read from the beginning; whatever comes is what was sent.
async fn read(cluster: &Cluster, conversation: &str) -> Result<u64> {
    let Some(mut alice) = login(cluster).await? else {
        return Ok(0);
    };
    let mut next = 1;
    while next <= MESSAGES {
        let page = match alice.history(history_forward(conversation, next)).await {
            Ok(page) => page,
            Err(CallError::Refused(error)) => {
                eprintln!("refused at {next}: {error:?}");
                return Ok(next - 1);
            }
            Err(other) => return Err(other.into()),
        };
        for event in &page.events {
            ensure!(event.seq == next, "{} instead of {next}", event.seq);
            let id = format!("all-{}", next - 1);
            ensure!(format!("{event:?}").contains(&id), "{event:?} is not {id}");
            next += 1;
        }
        ensure!(!page.events.is_empty(), "the log ends at {next}");
    }
    Ok(MESSAGES)
}

/// None: nobody is let in, with an error that says so.
async fn login(cluster: &Cluster) -> Result<Option<Connection>> {
    let gateways = cluster.gateway_addresses();
    match Connection::logged_in(&gateways[0], &cluster.signer.token("alice")).await {
        Ok(alice) => Ok(Some(alice)),
        Err(error) => {
            eprintln!("no login: {error:#}");
            Ok(None)
        }
    }
}
