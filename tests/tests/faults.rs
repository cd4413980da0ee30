//! Faults that no promise's own test has: links, clocks, days, operators, replacements, restarts, and places in the code.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::chaos::ChaosSpec;
use parlance_tests::cluster::binary;
use parlance_tests::faults::Fault;
use parlance_tests::story::must_pass;

const SHORT: Duration = Duration::from_secs(4);

async fn survives(seed: u64, faults: &[Fault]) -> Result<()> {
    let report = must_pass(ChaosSpec::new(seed, SHORT, faults.to_vec())).await?;
    ensure!(
        report.counts.whispers > 0,
        "no quiet conversation was tried"
    );
    ensure!(report.counts.pages_read > 0, "nobody read along");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_are_cut_off_or_late_lose_no_event() -> Result<()> {
    survives(801, &[Fault::BadLinks]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_lost_a_leader_for_long_tells_its_sessions_to_resync() -> Result<()> {
    survives(802, &[Fault::LostLink]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_jump_and_strobe_break_no_promise() -> Result<()> {
    survives(803, &[Fault::Clocks]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_past_midnight_is_stored_once() -> Result<()> {
    survives(804, &[Fault::DayChange]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaderships_and_operators_that_never_rest_break_no_promise() -> Result<()> {
    survives(805, &[Fault::Transfers, Fault::Operators]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_living_nodes_are_replaced_one_after_the_other() -> Result<()> {
    survives(806, &[Fault::ReplaceTwice]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_stop_and_start_in_every_order() -> Result<()> {
    survives(807, &[Fault::FullRestarts]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_anywhere_comes_back() -> Result<()> {
    if binary::needed_with_switches()?.is_none() {
        return Ok(());
    }
    survives(808, &[Fault::CrashPoints]).await
}

/// One node ahead does not lead; when all are, whoever leads is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_while_clocks_are_days_ahead_is_stored_once() -> Result<()> {
    survives(812, &[Fault::ClockRetries]).await
}

/// Shards do not have replicas on all of them, and some nodes only pass on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_survive_one_that_comes_and_goes() -> Result<()> {
    let mut spec = ChaosSpec::new(809, SHORT, vec![Fault::UnsteadyNode]);
    spec.cluster.nodes = 5;
    must_pass(spec).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_nodes_survive_halves_rings_and_the_death_of_several() -> Result<()> {
    let mut spec = ChaosSpec::new(810, SHORT, vec![Fault::ManyNodes]);
    spec.cluster.nodes = 7;
    must_pass(spec).await.map(drop)
}
