//! All disks at once: damaged, old in places, or not to be read. What is answered is right, and what cannot be is refused.

use anyhow::{Result, bail, ensure};
use parlance_tests::client::{CallError, Connection, history_forward};
use parlance_tests::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, START_WITHIN};
use parlance_tests::disk::{self, DiskOp};
use parlance_tests::logs;
use parlance_tests::wait::until;

use crate::{SOON, alice, chat, on_disks};

const MESSAGES: u64 = 300;
/// A node has as many tables at most; each gets a bit or two.
const FLIPS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bits_that_flip_on_all_disks_give_no_wrong_answer() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "all", MESSAGES).await?;
    cluster.kill_all_nodes()?;
    for node_id in cluster.nodes.keys() {
        for seed in 0..FLIPS {
            let seed = seed + node_id * FLIPS;
            cluster.disk(*node_id)?.flip("data/state/*.sst", seed)?;
        }
    }
    right_or_refused(&mut cluster, &conversation).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_blocks_on_all_disks_give_no_wrong_answer() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    let mut alice = alice(&cluster).await?;
    for node_id in cluster.nodes.keys() {
        cluster.disk(*node_id)?.remember()?;
    }
    let conversation = chat(&mut alice, "all", MESSAGES).await?;
    cluster.kill_all_nodes()?;
    for node_id in cluster.nodes.keys() {
        let place = cluster
            .disk(*node_id)?
            .grow_old("data/state/*.sst", *node_id)?;
        eprintln!("node {node_id} has an old block in {place}");
    }
    right_or_refused(&mut cluster, &conversation).await
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
