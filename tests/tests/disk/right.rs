//! What a shard answers whose disks fail: it is right, and where enough of its replicas serve, messages are stored and come.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use parlance_proto::client::v1::{Event, server_frame::Body};
use parlance_tests::client::{CallError, Connection, history_forward};
use parlance_tests::cluster::Cluster;
use parlance_tests::cluster::health::http_get;
use parlance_tests::logs;
use parlance_tests::wait::until;

use crate::{SHORT, SOON, alice};

/// Of the conversation that is looked at, sent as `all-0`, `all-1` …
pub const MESSAGES: u64 = 300;

/// The three nodes that have a replica of the one shard.
pub async fn having_the_shard(cluster: &Cluster) -> Result<Vec<u64>> {
    let status = cluster.any_admin().await?.status().await?;
    let shard = status.shards.first().context("no shard")?;
    ensure!(shard.wanted.len() == 3, "{shard:?}");
    Ok(shard.wanted.clone())
}

/// All that was acknowledged is there, and messages are stored and come again.
pub async fn all_is_as_it_was(cluster: &Cluster, conversation: &str) -> Result<()> {
    let read = read(cluster, conversation).await?;
    ensure!(read == MESSAGES, "{read} of {MESSAGES} were read");
    until("a message is stored and comes", SOON, async || {
        stored_and_comes(cluster).await
    })
    .await
}

/// Each node serves, or has stopped and says what to do. While most of the shard's replicas serve, messages are stored and
/// come.
pub async fn right_or_refused(
    cluster: &mut Cluster,
    conversation: &str,
    replicas: &[u64],
) -> Result<()> {
    cluster.start_all_nodes()?;
    for node_id in cluster.nodes.keys().copied().collect::<Vec<_>>() {
        ends_stops_or_waits(cluster, node_id).await?;
    }
    let read = read(cluster, conversation).await?;
    // What is damaged may be met only now.
    let serving = until("a message comes, or too few serve", SOON, async || {
        let mut serving = 0;
        for node_id in replicas {
            serving += usize::from(serves(cluster, *node_id).await);
        }
        if serving * 2 > replicas.len() {
            stored_and_comes(cluster).await?;
        }
        Ok(serving)
    })
    .await?;
    eprintln!("{serving} replicas serve; {read} of {MESSAGES} were read, the others refused");
    for (node_id, node) in &cluster.nodes {
        let said = logs::read(node.log())?;
        ensure!(!said.contains("panicked"), "node {node_id}:\n{said}");
        let advice = ["parlance node replace", "start the node again"];
        ensure!(
            serves(cluster, *node_id).await || advice.iter().any(|text| said.contains(text)),
            "node {node_id} does not say what to do:\n{}",
            node.tail(20)
        );
    }
    Ok(())
}

async fn ends_stops_or_waits(cluster: &mut Cluster, node_id: u64) -> Result<()> {
    let address = cluster.address.node_ops(node_id);
    let node = cluster.node(node_id)?;
    until("the node ends, stops or waits", SOON, async || {
        if let Some(status) = node.ended()? {
            ensure!(status.code() == Some(1), "ended with {status}");
            return Ok(());
        }
        match http_get(address, "/readyz").await? {
            (200, _) => Ok(()),
            (_, body) if body.contains("has stopped") => Ok(()),
            // Those that could have led with it have ended.
            (_, body) if body.contains("leader") => Ok(()),
            (status, body) => bail!("{status}: {body}"),
        }
    })
    .await
}

/// False: it has ended, or a replica of it has stopped.
async fn serves(cluster: &Cluster, node_id: u64) -> bool {
    let said = http_get(cluster.address.node_ops(node_id), "/readyz").await;
    // Nobody answers for one that has ended.
    said.is_ok_and(|(_, body)| !body.contains("has stopped"))
}

/// New messages so far, whoever asked.
static SENT: AtomicU64 = AtomicU64::new(0);

/// A new message is taken, and pushed to who is online.
async fn stored_and_comes(cluster: &Cluster) -> Result<()> {
    let gateways = cluster.gateway_addresses();
    let mut bob = Connection::logged_in(&gateways[0], &cluster.signer.token("bob")).await?;
    let mut alice = alice(cluster).await?;
    let id = format!("new-{}", SENT.fetch_add(1, Ordering::Relaxed));
    let sent = alice.send("bob", &id, "does it come?").await?;
    loop {
        match bob.next_within(SHORT).await?.body {
            Some(Body::Event(event)) if event.seq == sent.seq => return Ok(()),
            _ => {}
        }
    }
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
        let counted = |event: &&Event| event.seq <= MESSAGES; // what came later is of another name
        for event in page.events.iter().take_while(counted) {
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
