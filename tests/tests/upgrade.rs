//! Two builds in one cluster: this one, and one that can speak the next feature level. Nodes and gateways are replaced by it one
//! by one, and back again, until the level is raised; then the older build stays out.
//!
//! `PARLANCE_BROKEN_BIN` names the other build, which has the feature `unsafe-test-switches`; without it there is nothing
//! to test, and the test says so and is skipped; in CI it fails.

use anyhow::{Result, ensure};
use parlance_proto::version::{FEATURE_LEVELS, TEST_FEATURE_LEVEL};
use parlance_tests::cli::{NOT_POSSIBLE, Shell};
use parlance_tests::client::Connection;
use parlance_tests::cluster::process::Program;
use parlance_tests::cluster::{Cluster, ClusterSpec, START_WITHIN, STOP_WITHIN, binary};
use parlance_tests::load::LoadSpec;
use parlance_tests::logs::{self, Allowed};
use parlance_tests::story::tell_under;

/// A send may wait for an election, no more.
const LONGEST_WAIT_MS: f64 = 4000.0;
/// The level of this build, and the one that the other build can speak beyond it.
const NOW: u32 = *FEATURE_LEVELS.end();
const NEXT: u32 = TEST_FEATURE_LEVEL;

/// How a node of the older build says why it does not start.
fn refusal() -> String {
    format!("feature level {NEXT}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_upgraded_and_put_back_under_load_until_its_level_is_raised() -> Result<()> {
    let Some(binary) = binary::needed_with_switches()? else {
        return Ok(());
    };
    let newer = Program {
        binary,
        environment: vec![("PARLANCE_TEST_FEATURE_LEVEL".into(), NEXT.to_string())],
    };
    let allowed = Allowed {
        texts: vec![refusal()],
        ..Allowed::default()
    };
    let gaps = tell_under(
        LoadSpec::default(),
        ClusterSpec::default(),
        allowed,
        async |cluster| {
            let older = cluster.program();
            let shell = Shell::new(cluster)?;
            levels(&shell, NOW, NOW).await?;
            replaced(cluster, 1, &newer).await?;
            gateway_replaced(cluster, 0, &newer).await?;
            side_by_side(&shell).await?;
            for node_id in [2, 3] {
                replaced(cluster, node_id, &newer).await?;
            }
            gateway_replaced(cluster, 1, &newer).await?;
            levels(&shell, NOW, NEXT).await?;
            for node_id in [3, 1, 2] {
                replaced(cluster, node_id, &older).await?;
            }
            for number in [0, 1] {
                gateway_replaced(cluster, number, &older).await?;
            }
            levels(&shell, NOW, NOW).await?;
            for node_id in [2, 3, 1] {
                replaced(cluster, node_id, &newer).await?;
            }
            raised(&shell).await?;
            stays_out(cluster, 3, &older, &newer).await?;
            let token = cluster.signer.token("alice");
            let mut alice = Connection::logged_in(&cluster.gateway_addresses()[0], &token).await?;
            alice.send("bob", "m1", "after all that").await?;
            Ok(())
        },
    )
    .await?;
    ensure!(
        gaps.ack_max_ms < LONGEST_WAIT_MS,
        "a send waited for {} ms",
        gaps.ack_max_ms
    );
    Ok(())
}

/// Stops a node, starts it as another program, and waits until all is as before.
async fn replaced(cluster: &mut Cluster, node_id: u64, program: &Program) -> Result<()> {
    let node = cluster.node(node_id)?;
    node.stop(STOP_WITHIN).await?;
    node.becomes(program);
    node.start()?;
    cluster.wait_node_ready(node_id, START_WITHIN).await?;
    cluster.wait_healthy(START_WITHIN).await
}

/// Stops a gateway and starts it as another program; clients go to the other one meanwhile.
async fn gateway_replaced(cluster: &mut Cluster, number: usize, program: &Program) -> Result<()> {
    let gateway = &mut cluster.gateways[number];
    gateway.stop(STOP_WITHIN).await?;
    gateway.becomes(program);
    gateway.start()?;
    cluster.wait_gateways_ready(START_WITHIN).await
}

/// What the status says of the cluster's level, and of the one that is possible.
async fn levels(shell: &Shell, is: u32, possible: u32) -> Result<()> {
    let status = shell.data(&["cluster", "status"]).await?;
    let told = (&status["feature_level"], &status["feature_level_possible"]);
    ensure!(told == (&is.into(), &possible.into()), "{status}");
    Ok(())
}

/// One node of three is new: the level stays, and the others are named.
async fn side_by_side(shell: &Shell) -> Result<()> {
    levels(shell, NOW, NOW).await?;
    let status = shell.data(&["cluster", "status"]).await?;
    let highest = |node: usize| &status["nodes"][node]["feature_level_max"];
    ensure!(highest(0) == NEXT && highest(1) == NOW, "{status}");
    let refused = shell.run(&["cluster", "upgrade"]).await?;
    ensure!(
        refused.code == NOT_POSSIBLE && refused.stderr.contains("nodes 2, 3 cannot speak"),
        "{refused:?}"
    );
    levels(shell, NOW, NOW).await
}

async fn raised(shell: &Shell) -> Result<()> {
    let check = shell.data(&["cluster", "upgrade", "--check"]).await?;
    ensure!(check["level"] == NEXT && check["done"] == false, "{check}");
    levels(shell, NOW, NEXT).await?;
    let raised = shell.data(&["cluster", "upgrade"]).await?;
    ensure!(
        raised["level_before"] == NOW && raised["level"] == NEXT,
        "{raised}"
    );
    levels(shell, NEXT, NEXT).await?;
    let again = shell.data(&["cluster", "upgrade"]).await?;
    ensure!(
        again["level_before"] == NEXT && again["level"] == NEXT,
        "{again}"
    );
    Ok(())
}

/// A node of the older build ends with an error that says what is wrong; as the newer one it comes back.
async fn stays_out(
    cluster: &mut Cluster,
    node_id: u64,
    older: &Program,
    newer: &Program,
) -> Result<()> {
    let node = cluster.node(node_id)?;
    node.stop(STOP_WITHIN).await?;
    let said_before = logs::read(node.log())?.len();
    node.becomes(older);
    node.start()?;
    let status = node.wait_for_end(START_WITHIN).await?;
    let said = logs::read(node.log())?;
    let said = said.get(said_before..).unwrap_or_default();
    ensure!(
        !status.success() && said.contains(&refusal()) && !said.contains("panicked"),
        "the older build ended with {status}:\n{said}"
    );
    node.becomes(newer);
    node.start()?;
    cluster.wait_node_ready(node_id, START_WITHIN).await?;
    cluster.wait_healthy(START_WITHIN).await
}
