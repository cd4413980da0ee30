//! A disk that is full or does not answer shows everywhere, with the node that has it.

use anyhow::{Result, ensure};
use parlance_tests::cli::Shell;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::disk::{self, DiskOp};
use parlance_tests::wait::until;

use super::SOON;
use super::check::{becomes_well, is_found, readiness};

/// Less than half of the reserve of 1 GiB.
const OUT: u64 = 300 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_or_silent_disk_shows_everywhere_until_it_is_well() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let spec = ClusterSpec {
        gateways: 1,
        disks: true,
        ..ClusterSpec::default()
    };
    let cluster = Cluster::start(spec).await?;
    let shell = Shell::new(&cluster)?;
    becomes_well(&shell).await?;

    cluster.disk(2)?.fill(OUT)?;
    is_found(&shell, "disk_full", "node 2").await?;
    is_not_ready(&cluster, 2, "the disk is full").await?;
    is_measured(&cluster, 2, "parlance_node_disk_lacking", 0.0).await?;
    cluster.disk(2)?.heal()?;
    becomes_well(&shell).await?;

    cluster.disk(3)?.hang(DiskOp::Sync, "data/log/*")?;
    is_found(&shell, "disk_silent", "node 3").await?;
    is_not_ready(&cluster, 3, "the disk has not answered").await?;
    is_measured(&cluster, 3, "parlance_node_disk_silent_seconds", 5.0).await?;
    cluster.disk(3)?.heal()?;
    becomes_well(&shell).await
}

async fn is_not_ready(cluster: &Cluster, node_id: u64, why: &str) -> Result<()> {
    until("readiness says why not", SOON, async || {
        let (code, body) = readiness(cluster, node_id).await?;
        ensure!(code == 503 && body.contains(why), "{code}: {body}");
        Ok(())
    })
    .await
}

async fn is_measured(cluster: &Cluster, node_id: u64, metric: &str, above: f64) -> Result<()> {
    until("the metric says it", SOON, async || {
        let value = cluster.node_metric(node_id, metric, "").await?;
        ensure!(value > above, "{metric} is {value}");
        Ok(())
    })
    .await
}
