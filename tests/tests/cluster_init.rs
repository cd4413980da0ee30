//! How a cluster is made, also when the first attempt is cut off.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::wait::until;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);

fn spec() -> ClusterSpec {
    ClusterSpec {
        gateways: 0,
        shards: 4,
        ..ClusterSpec::default()
    }
}

/// Starts nodes and waits until they answer operators.
async fn start_nodes(cluster: &mut Cluster, node_ids: &[u64]) -> Result<()> {
    for node_id in node_ids {
        cluster.node(*node_id)?.start()?;
    }
    for node_id in node_ids.iter().copied() {
        until("a node answers", SOON, async || {
            cluster.admin(node_id).await?.status().await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_making_that_was_cut_off_anywhere_is_taken_up_by_asking_again() -> Result<()> {
    for cut_after_ms in [5, 20, 40, 60, 90, 130, 180] {
        let mut cluster = Cluster::prepare(spec())?;
        start_nodes(&mut cluster, &[1, 2, 3]).await?;
        let nodes: Vec<_> = (1..=3).map(|id| cluster.node_spec(id)).collect();
        let mut admin = cluster.admin(1).await?;
        let first = admin.init(nodes.clone(), 4);
        // Whatever has happened by then.
        let _ = timeout(Duration::from_millis(cut_after_ms), first).await;
        for node_id in 1..=3 {
            cluster.node(node_id)?.kill()?;
        }
        start_nodes(&mut cluster, &[1, 2, 3]).await?;
        let again = cluster.admin(1).await?.init(nodes, 4).await;
        let status = cluster.admin(1).await?.status().await?;
        let report = || format!("cut after {cut_after_ms} ms: {again:?}, {status:?}");
        let made = again.as_ref().is_ok_and(|id| *id == status.cluster_id);
        ensure!(made, report());
        ensure!(status.nodes.len() == 3 && status.shard_count == 4, report());
        until("every node serves", SOON, async || {
            for node_id in 1..=3 {
                let status = cluster.admin(node_id).await?.status().await?;
                let led = status.shards.iter().filter(|shard| shard.leader != 0);
                ensure!(led.count() == 4, "node {node_id}: {status:?}");
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_making_that_misses_a_node_leaves_nothing_behind() -> Result<()> {
    let mut cluster = Cluster::prepare(spec())?;
    start_nodes(&mut cluster, &[1, 2]).await?;
    let nodes: Vec<_> = (1..=3).map(|id| cluster.node_spec(id)).collect();
    let missed = cluster.admin(1).await?.init(nodes.clone(), 4).await;
    let text = format!("{missed:?}");
    ensure!(missed.is_err() && text.contains("node 3"), "{text}");
    start_nodes(&mut cluster, &[3]).await?;
    let made = cluster.admin(2).await?.init(nodes.clone(), 4).await?;
    for node_id in 1..=3 {
        let again = cluster.admin(node_id).await?.init(nodes.clone(), 4).await?;
        ensure!(again == made, "made {made}, then {again}");
    }
    let other = cluster.admin(1).await?.init(nodes, 5).await;
    let text = format!("{other:?}");
    ensure!(other.is_err() && text.contains("4 shards"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_made_an_app_knows_it_although_another_node_leads() -> Result<()> {
    let cluster = Cluster::start(spec()).await?;
    for number in 0..10 {
        for node_id in 1..=3 {
            let app_id = format!("app-{node_id}-{number}");
            let mut admin = cluster.admin(node_id).await?;
            admin.create_app(&app_id).await?;
            let known = admin.app_ids().await?;
            ensure!(known.contains(&app_id), "node {node_id}: {known:?}");
        }
    }
    Ok(())
}

/// Writes another lease into a node's settings.
fn set_lease(cluster: &Cluster, node_id: u64, lease_ms: i64) -> Result<()> {
    let file = cluster.dir().join(format!("node-{node_id}.toml"));
    let mut settings: toml::Table = toml::from_str(&std::fs::read_to_string(&file)?)?;
    let raft = settings
        .entry("raft")
        .or_insert_with(|| toml::Table::new().into());
    let raft = raft.as_table_mut().context("raft is no table")?;
    raft.insert("lease_ms".into(), lease_ms.into());
    Ok(std::fs::write(&file, toml::to_string(&settings)?)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_lease_is_not_taken_in_and_does_not_start() -> Result<()> {
    let mut cluster = Cluster::prepare(spec())?;
    for node_id in 1..=3 {
        set_lease(&cluster, node_id, 700)?;
    }
    set_lease(&cluster, 3, 900)?;
    start_nodes(&mut cluster, &[1, 2, 3]).await?;
    let nodes: Vec<_> = (1..=3).map(|id| cluster.node_spec(id)).collect();
    let refused = cluster.admin(1).await?.init(nodes.clone(), 4).await;
    let text = format!("{refused:?}");
    ensure!(refused.is_err() && text.contains("lease_ms"), "{text}");
    cluster.node(3)?.stop(SOON).await?;
    set_lease(&cluster, 3, 700)?;
    start_nodes(&mut cluster, &[3]).await?;
    cluster.admin(1).await?.init(nodes, 4).await?;

    cluster.node(3)?.stop(SOON).await?;
    set_lease(&cluster, 3, 900)?;
    cluster.node(3)?.start()?;
    let ended = cluster.node(3)?.wait_for_end(SOON).await?;
    let said = cluster.node(3)?.tail(5);
    ensure!(!ended.success() && said.contains("700"), "{ended}: {said}");
    Ok(())
}
