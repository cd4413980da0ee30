//! P1: a power cut takes nothing that was acknowledged, on one node, on all at once, and in the middle of anything.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::chaos::{self, ChaosSpec};
use parlance_tests::cluster::{Cluster, START_WITHIN, binary};
use parlance_tests::disk::{self, DiskOp};
use parlance_tests::faults::{Fault, NOT_BACK};
use parlance_tests::story::must_pass;
use parlance_tests::wait::until;

use crate::{SHORT, SOON, alice, chat, on_disks};

/// Nothing that was not synced is there afterwards.
const HARSH: u64 = 0;
/// Longer than a node needs to write down how far a manifest is.
const SLOW_SYNC_MS: u64 = 2500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_of_one_node_and_of_all_at_once_lose_nothing() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    must_pass(ChaosSpec::new(801, SHORT, vec![Fault::PowerCut]))
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_node_loses_nothing_by_power_cuts() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut spec = ChaosSpec::new(802, SHORT, vec![Fault::PowerCut, Fault::PowerCut]);
    spec.cluster.nodes = 1;
    must_pass(spec).await.map(drop)
}

/// `kill -9` does not show it: what was written is still in the system's memory then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_does_not_sync_its_log_is_found_out() -> Result<()> {
    let Some(binary) = binary::needed_with_switches()? else {
        return Ok(());
    };
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut spec = ChaosSpec::new(803, SHORT, vec![Fault::PowerCut]);
    spec.cluster.binary = Some(binary);
    // With the switch off it loses nothing and comes back: whatever is found below, the switch has done it.
    must_pass(spec.clone()).await?;
    let switch = "PARLANCE_TEST_UNSAFE_NO_SYNC".to_owned();
    spec.cluster.environment.push((switch, "1".to_owned()));
    let report = chaos::run(&spec).await?;
    let lost = report.violations.iter().any(|v| v.promise == "durable");
    // A cluster whose replicas forgot what they had promised each other may not even come back.
    let trouble = report.trouble.as_deref().unwrap_or_default();
    ensure!(
        lost || trouble.contains(NOT_BACK),
        "not found out:\n{report}"
    );
    Ok(())
}

/// RocksDB writes its manifest before it syncs it: a node that believed the length would refuse a sound database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_was_written_and_not_synced_may_be_gone() -> Result<()> {
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(1)).await?;
    cluster
        .disk(1)?
        .slow(DiskOp::Sync, "*/MANIFEST-*", SLOW_SYNC_MS)?;
    let mut alice = alice(&cluster).await?;
    // A log that has grown long is purged behind a flush, which goes into the manifest.
    chat(&mut alice, "before", 150).await?;
    until("a manifest is written and being synced", SOON, async || {
        let struck = cluster.disk(1)?.struck()?;
        ensure!(struck.contains("sync slow"), "{struck:?}");
        Ok(())
    })
    .await?;
    // The node looks at its manifests every second.
    tokio::time::sleep(Duration::from_millis(SLOW_SYNC_MS / 2)).await;
    cluster.cut_power(&[1], HARSH)?;
    cluster.node(1)?.start()?;
    cluster.wait_node_ready(1, START_WITHIN).await?;
    cluster.wait_healthy(START_WITHIN).await
}

/// The marker by which the next start does an installation again is of use only if its folder is on the disk, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_being_installed_when_the_power_fails_is_installed_again() -> Result<()>
{
    if !disk::can_fail()? {
        return Ok(());
    }
    let mut cluster = Cluster::start(on_disks(3)).await?;
    cluster.node(3)?.kill()?;
    let mut alice = alice(&cluster).await?;
    chat(&mut alice, "before", 600).await?;
    cluster.disk(3)?.slow(DiskOp::Sync, "data/state/*", 1000)?;
    cluster.node(3)?.start()?;
    let links = cluster.data_dir(3).join("snapshots/1/received-0/links");
    until(
        "the old rows are gone, the new ones on their way",
        SOON,
        async || {
            ensure!(links.exists(), "no {}", links.display());
            Ok(())
        },
    )
    .await?;
    cluster.cut_power(&[3], HARSH)?;
    cluster.node(3)?.start()?;
    cluster.wait_node_ready(3, START_WITHIN).await?;
    cluster.wait_healthy(START_WITHIN).await?;
    let said = parlance_tests::logs::read(cluster.node(3)?.log())?;
    ensure!(
        said.contains("half-installed"),
        "the cut came too late or too early"
    );
    Ok(())
}
