//! P6: a hostile client floods each bound in turn, and whoever chats meanwhile does not notice: nothing of theirs is lost or
//! refused, nobody is disconnected, and each refusal is counted. How long their messages take is measured and told.

mod attacks;
mod bystander;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_proto::common::v1::AppLimits;
use parlance_testkit::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::Allowed;
use parlance_tests::story::tell;
use parlance_tests::token::Signer;

use attacks::{ATTACKS, Hostile};
use bystander::Bystander;

/// How long each attack lasts, and how long it is quiet before.
const LENGTH: Duration = Duration::from_secs(5);
const HOSTILE_APP: &str = "hostile";

/// Bounds that one machine can reach in seconds.
fn small_bounds() -> ClusterSpec {
    let limits = "[limits]\nlogins_per_address = 100\nrequests_per_second = 1000\nconnections_waiting_max = 100\n\
                  outbound_total_bytes_max = 16777216\n";
    ClusterSpec {
        gateway_settings: toml::from_str(limits).unwrap_or_default(),
        ..ClusterSpec::default()
    }
}

/// All refusals of the flooded gateway for one reason.
async fn refusals(cluster: &Cluster, reason: &str) -> Result<u64> {
    let (_, text) = http_get(cluster.address.gateway_ops(1), "/metrics").await?;
    let name = format!("parlance_gateway_refusals_total{{reason=\"{reason}\"}} ");
    let count = text.lines().find_map(|line| line.strip_prefix(&name));
    count.map_or(Ok(0), |count| count.parse().context("a count"))
}

/// Links that nodes closed for any reason, and links that are down.
async fn broken_links(cluster: &Cluster) -> Result<f64> {
    let mut closed = 0.0;
    for node in cluster.nodes.keys() {
        let name = "parlance_node_links_closed_total";
        closed += cluster.node_metric(*node, name, "").await?;
    }
    Ok(closed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_a_gateway_floods_nobody_else() -> Result<()> {
    tell(small_bounds(), Allowed::default(), async |cluster| {
        let mut admin = cluster.admin(1).await?;
        // The settings of the gateway count: 10 messages a second.
        let limits = AppLimits::default();
        let secret = admin.create_app_with(HOSTILE_APP, limits).await?;
        let gateway = cluster.address.gateway(1);
        let hostile = Hostile::prepare(gateway, Signer::new(HOSTILE_APP, secret)).await?;
        let links_before = broken_links(cluster).await?;
        let mut bystander = Bystander::start(gateway, &cluster.signer).await?;
        let quiet = bystander.watch(LENGTH).await?;
        eprintln!("quiet: {quiet}");
        for attack in ATTACKS {
            let mut before = 0;
            for reason in attack.reasons {
                before += refusals(cluster, reason).await?;
            }
            let (told, during) = tokio::join!(
                hostile.run(attack, LENGTH),
                bystander.watch(LENGTH),
            );
            let told = told.with_context(|| attack.name.to_owned())?;
            let during = during.with_context(|| attack.name.to_owned())?;
            let mut counted = 0;
            for reason in attack.reasons {
                counted += refusals(cluster, reason).await?;
            }
            counted -= before;
            let ratio = during.p99_ms / quiet.p99_ms;
            eprintln!(
                "{}: {during}, p99 {ratio:.1} times the quiet one; {} asked, {} told no, {counted} counted",
                attack.name, told.asked, told.refused
            );
            ensure!(
                counted > 0 || !attack.must_reach(),
                "{}: never reached its bound",
                attack.name
            );
            ensure!(
                counted >= told.refused,
                "{}: {} refusals, {counted} counted",
                attack.name,
                told.refused
            );
        }
        bystander.end().await?;
        ensure!(
            broken_links(cluster).await? <= links_before,
            "a link between a gateway and a node was closed"
        );
        Ok(())
    })
    .await
}
