//! P3 on clocks: one that is wrong decides nothing, and is shown.
//!
//! Needs the build with switches (`PARLANCE_BROKEN_BIN`); without it the test says so and is skipped, and fails in CI.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_proto::client::v1::SendResponse;
use parlance_tests::client::Connection;
use parlance_tests::cluster::process::Program;
use parlance_tests::cluster::{Cluster, ClusterSpec, START_WITHIN, STOP_WITHIN, binary};
use parlance_tests::wait::until;

const DAY_MS: i64 = 86_400_000;
const SEEN_WITHIN: Duration = Duration::from_secs(60);
const STORED_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_days_ahead_leads_nothing_and_stores_nothing_twice() -> Result<()> {
    let Some(binary) = binary::needed_with_switches()? else {
        return Ok(());
    };
    let mut cluster = Cluster::start(ClusterSpec {
        binary: Some(binary.clone()),
        ..ClusterSpec::default()
    })
    .await?;
    let gateways = cluster.gateway_addresses();
    let mut alice = Connection::logged_in(&gateways[0], &cluster.signer.token("alice")).await?;
    let mut firsts = Vec::new();
    for peer in 0..20 {
        firsts.push(alice.send(&format!("peer-{peer}"), "m1", "before").await?);
    }

    let node = cluster.node(2)?;
    node.stop(STOP_WITHIN).await?;
    node.becomes(&Program {
        binary,
        environment: vec![(
            "PARLANCE_TEST_CLOCK_AHEAD_MS".into(),
            (3 * DAY_MS).to_string(),
        )],
    });
    node.start()?;
    cluster.wait_node_ready(2, START_WITHIN).await?;
    until(
        "all see the wrong clock, and node 2 leads nothing",
        SEEN_WITHIN,
        async || {
            for asked in [1, 2, 3] {
                let status = cluster.admin(asked).await?.status().await?;
                for node in &status.nodes {
                    ensure!(node.clock_wrong == (node.node_id == 2), "{node:?}");
                    ensure!(node.node_id != 2 || node.leads == 0, "{node:?}");
                }
            }
            Ok(())
        },
    )
    .await?;
    until("its metric shows it", SEEN_WITHIN, async || {
        let ahead = cluster.node_metric(2, "parlance_node_clock_ahead_seconds", "");
        let ahead = ahead.await?;
        ensure!(
            (ahead * 1000.0 - 3.0 * DAY_MS as f64).abs() < 60_000.0,
            "{ahead} s"
        );
        Ok(())
    })
    .await?;

    // The others go away: node 2 may have to lead, and must forget nothing.
    for gone in [1, 3] {
        cluster.node(gone)?.kill()?;
        for (peer, first) in firsts.iter().enumerate() {
            let to = format!("peer-{peer}");
            let again = stored(&mut alice, &to, "m1", "before").await?;
            ensure!(again.duplicate && again.seq == first.seq, "{again:?}");
            let new = stored(&mut alice, &to, &format!("m-{gone}"), "x").await?;
            ensure!(
                new.time_ms - first.time_ms < DAY_MS,
                "it shows the wrong time: {new:?}"
            );
        }
        cluster.node(gone)?.start()?;
        cluster.wait_healthy(START_WITHIN).await?;
    }
    Ok(())
}

/// Whoever has just been killed may have been its leader: it is sent again until it is stored.
async fn stored(alice: &mut Connection, to: &str, id: &str, text: &str) -> Result<SendResponse> {
    until("a message is stored", STORED_WITHIN, async || {
        Ok(alice.send(to, id, text).await?)
    })
    .await
}
