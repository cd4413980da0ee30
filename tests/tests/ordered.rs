//! P2: one order without gaps for everybody, and reads that are never behind an acknowledgement.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::chaos::ChaosSpec;
use parlance_tests::faults::Fault;
use parlance_tests::story::must_pass;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fault_nothing_has_to_be_retried() -> Result<()> {
    let mut spec = ChaosSpec::new(201, Duration::from_secs(8), vec![Fault::None]);
    spec.load.rate = 600;
    let report = must_pass(spec).await?;
    ensure!(
        report.counts.doubts == 0,
        "doubts without a fault: {:?}",
        report.counts.doubts_by_reason
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_neither_forks_the_order_nor_answers_old_reads() -> Result<()> {
    must_pass(ChaosSpec::new(
        202,
        Duration::from_secs(6),
        vec![Fault::FreezeLeader],
    ))
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_acknowledges_nothing_that_is_lost() -> Result<()> {
    let faults = vec![Fault::Partition, Fault::BadNetwork];
    must_pass(ChaosSpec::new(203, Duration::from_secs(4), faults))
        .await
        .map(drop)
}
