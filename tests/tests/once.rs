//! P3: one client message id is one message, whatever is retried through which gateway.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::chaos::ChaosSpec;
use parlance_tests::faults::Fault;
use parlance_tests::story::must_pass;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_across_a_leader_change_and_two_gateways_store_once() -> Result<()> {
    let report = must_pass(ChaosSpec::new(
        301,
        Duration::from_secs(6),
        vec![Fault::Retries],
    ))
    .await?;
    ensure!(
        report.counts.duplicates_answered > 0,
        "no duplicate was ever answered: the test tested nothing"
    );
    ensure!(
        report.counts.conflicts_probed > 0,
        "no conflict was probed: the test tested nothing"
    );
    Ok(())
}
