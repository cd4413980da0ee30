//! A disk without room: a node stops taking what is new before it runs into the end, says so, and goes on by itself.

use anyhow::{Context, Result, ensure};
use parlance_tests::chaos::ChaosSpec;
use parlance_tests::client::{CallError, Connection, history_forward};
use parlance_tests::cluster::{Cluster, START_WITHIN};
use parlance_tests::disk;
use parlance_tests::faults::Fault;
use parlance_tests::story::{must_pass, tell};
use parlance_tests::wait::until;

use crate::{SHORT, SOON, alice, chat, complaints, leader, on_disks};

/// Less than the reserve of 1 GiB, and less than half of it.
const LOW: u64 = 800 << 20;
const OUT: u64 = 300 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_room_refuses_before_its_disk_is_full_and_goes_on_by_itself() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(1)).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "before", 10).await?;
    for left in [LOW, OUT] {
        cluster.disk(1)?.fill(left)?;
        until("a message is refused", SOON, async || {
            refused(&mut alice).await
        })
        .await?;
        let page = alice.history(history_forward(&conversation, 1)).await?;
        ensure!(!page.events.is_empty(), "nothing can be read: {page:?}");
    }
    let name = "parlance_node_disk_full_refused_total";
    let counted = cluster.node_metric(1, name, "").await?;
    ensure!(counted > 0.0, "{name} is {counted}");
    let struck = cluster.disk(1)?.struck()?;
    ensure!(!struck.contains("full"), "it ran into the end: {struck}");
    cluster.disk(1)?.heal()?;
    until("messages are taken again", SOON, async || {
        Ok(alice.send("bob", "after", "after").await?)
    })
    .await?;
    cluster.check_all_run()
}

/// With an error that says when to come again, and that nothing was stored.
async fn refused(alice: &mut Connection) -> Result<()> {
    let number = "probe";
    match alice.send("bob", number, "probe").await {
        Err(CallError::Refused(error)) => {
            ensure!(error.code().name() == "overloaded", "{error:?}");
            ensure!(error.retry_after_ms > 0, "{error:?}");
            ensure!(error.message.contains("disk"), "{error:?}");
            Ok(())
        }
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_one_node_stops_nobody_and_it_leads_nothing_until_there_is_room()
-> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    tell(on_disks(3), complaints(), async |cluster| {
        let full = leader(cluster).await?;
        cluster.disk(full)?.fill(OUT)?;
        until("others lead", SOON, async || {
            let status = cluster.any_admin().await?.status().await?;
            let nodes = &status.nodes;
            let node = nodes.iter().find(|n| n.node_id == full).context("gone")?;
            ensure!(node.leads == 0, "{node:?}");
            Ok(())
        })
        .await?;
        let mut alice = alice(cluster).await?;
        chat(&mut alice, "meanwhile", 20).await?;
        let struck = cluster.disk(full)?.struck()?;
        ensure!(!struck.contains("full"), "it ran into the end: {struck}");
        cluster.disk(full)?.heal()?;
        cluster.wait_node_ready(full, START_WITHIN).await?;
        cluster.wait_healthy(START_WITHIN).await
    })
    .await
}

/// Down to the last byte, where nodes may end; they are started again when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_are_full_to_the_last_byte_lose_nothing() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    must_pass(ChaosSpec::new(811, SHORT, vec![Fault::DiskFull]))
        .await
        .map(drop)
}

/// Nobody can take the place of anybody: clients are told when to come again, long before their requests time out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_disks_are_full_sends_are_refused_and_all_is_read() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut spec = on_disks(3);
    let patient = toml::Value::Integer(60_000);
    let limits = toml::Table::from_iter([("request_timeout_ms".to_owned(), patient)]);
    spec.gateway_settings
        .insert("limits".to_owned(), toml::Value::Table(limits));
    let mut cluster = Cluster::start(spec).await?;
    let mut alice = alice(&cluster).await?;
    let conversation = chat(&mut alice, "before", 10).await?;
    for left in [LOW, OUT] {
        for node_id in cluster.nodes.keys() {
            cluster.disk(*node_id)?.fill(left)?;
        }
        until("a message is refused", SOON, async || {
            refused(&mut alice).await
        })
        .await?;
        let asked = tokio::time::Instant::now();
        refused(&mut alice).await?;
        eprintln!("refused after {:?}, {left} bytes left", asked.elapsed());
        let page = alice.history(history_forward(&conversation, 1)).await?;
        // The message that was to be refused may have been stored before its node looked at the disk.
        ensure!(page.events.len() >= 10, "not all can be read: {page:?}");
    }
    for node_id in cluster.nodes.keys() {
        let struck = cluster.disk(*node_id)?.struck()?;
        ensure!(!struck.contains("full"), "it ran into the end: {struck}");
        cluster.disk(*node_id)?.heal()?;
    }
    until("messages are taken again", SOON, async || {
        Ok(alice.send("bob", "after", "after").await?)
    })
    .await?;
    cluster.check_all_run()
}
