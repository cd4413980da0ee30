//! P1: what was acknowledged survives every death, and damage to one node's files.

use std::time::Duration;

use anyhow::Result;
use parlance_tests::chaos::ChaosSpec;
use parlance_tests::faults::Fault;
use parlance_tests::story::must_pass;

const SHORT: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_killed_at_once_lose_nothing() -> Result<()> {
    must_pass(ChaosSpec::new(101, SHORT, vec![Fault::KillAll]))
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_node_is_as_durable_as_any_other() -> Result<()> {
    let mut spec = ChaosSpec::new(102, SHORT, vec![Fault::KillAll]);
    spec.cluster.nodes = 1;
    spec.cluster.shards = 4;
    must_pass(spec).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_log_and_cut_off_files_of_one_node_lose_nothing() -> Result<()> {
    let faults = vec![
        Fault::CorruptLog,
        Fault::TruncateMetadata,
        Fault::TruncateState,
    ];
    must_pass(ChaosSpec::new(103, SHORT, faults))
        .await
        .map(drop)
}
