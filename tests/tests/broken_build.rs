//! The checker, checked on real processes: a build that is broken on purpose must be found out.
//!
//! `PARLANCE_BROKEN_BIN` names a program built with the feature `unsafe-test-switches`; without it there is nothing
//! to test, and the tests say so and are skipped.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::chaos::{self, ChaosSpec};
use parlance_tests::cluster::binary;
use parlance_tests::faults::Fault;

async fn must_fail(switch: &str, fault: Fault, promises: &[&str]) -> Result<()> {
    let Some(binary) = binary::with_switches() else {
        eprintln!("skipped: PARLANCE_BROKEN_BIN is not set");
        return Ok(());
    };
    let mut spec = ChaosSpec::new(601, Duration::from_secs(5), vec![fault]);
    spec.cluster.binary = Some(binary);
    spec.cluster
        .environment
        .push((switch.to_owned(), "1".to_owned()));
    let report = chaos::run(&spec).await?;
    let found = |promise: &str| {
        report
            .violations
            .iter()
            .any(|violation| violation.promise == promise)
    };
    // A cluster that lost what its replicas had promised each other may not even come back.
    let dead = report.trouble.is_some();
    ensure!(
        dead || promises.iter().any(|promise| found(promise)),
        "{switch} was not found out as {promises:?}:\n{report}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_without_fsync_is_found_out() -> Result<()> {
    must_fail(
        "PARLANCE_TEST_UNSAFE_NO_FSYNC",
        Fault::KillAll,
        &["durable"],
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_without_dedup_is_found_out() -> Result<()> {
    must_fail("PARLANCE_TEST_UNSAFE_NO_DEDUP", Fault::Retries, &["once"]).await
}
