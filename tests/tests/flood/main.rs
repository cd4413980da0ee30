//! P6: a hostile client floods each bound in turn, and whoever chats meanwhile does not notice: nothing of theirs is lost or
//! refused, nobody is disconnected, and each refusal is counted. How long their messages take, quiet and flooded, is measured
//! and told. All run on one machine: what the hostile client itself costs is in it.

mod attacks;
mod bystander;
mod hostile;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_proto::common::v1::AppLimits;
use parlance_testkit::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::Allowed;
use parlance_tests::story::tell;
use parlance_tests::token::Signer;
use tokio::runtime::Builder;

use attacks::{ATTACKS, Attack};
use bystander::{Bystander, Latency};
use hostile::{Hostile, Told};

/// How long each attack lasts, and how long it is quiet before each.
const LENGTH: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(3);
const HOSTILE_APP: &str = "hostile";

/// Bounds that one machine can reach in seconds, and the usual rate of requests.
fn small_bounds() -> ClusterSpec {
    let limits = "[limits]\nlogins_per_address = 100\nconnections_per_address = 500\nrequests_per_second = 100\n\
                  connections_waiting_max = 100\nconnections_max = 400\noutbound_total_bytes_max = 16777216\n";
    ClusterSpec {
        gateway_settings: toml::from_str(limits).unwrap_or_default(),
        ..ClusterSpec::default()
    }
}

/// What the flooded gateway has refused, or closed, for these reasons.
async fn counted(cluster: &Cluster, reasons: &[&str]) -> Result<u64> {
    let (_, text) = http_get(cluster.address.gateway_ops(1), "/metrics").await?;
    let mut sum = 0;
    for reason in reasons {
        for metric in ["refusals", "closed"] {
            let name = format!("parlance_gateway_{metric}_total{{reason=\"{reason}\"}} ");
            let count = text.lines().find_map(|line| line.strip_prefix(&name));
            sum += count.map_or(Ok(0), str::parse::<u64>).context("a count")?;
        }
    }
    Ok(sum)
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
        // For the rest the settings of the gateway count: 10 messages a second.
        let limits = AppLimits {
            app_messages_per_second: 100,
            ..AppLimits::default()
        };
        let secret = admin.create_app_with(HOSTILE_APP, limits).await?;
        let gateway = cluster.address.gateway(1);
        let hostile = Hostile::prepare(gateway, Signer::new(HOSTILE_APP, secret)).await?;
        let hostile = Arc::new(hostile);
        let links_before = broken_links(cluster).await?;
        let mut bystander = Bystander::start(gateway, &cluster.signer).await?;
        eprintln!(
            "| flood | asked | told no | closed | counted | quiet p99 | flooded p99 | ratio |"
        );
        eprintln!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        for attack in ATTACKS {
            // What the last attack has used up is there again.
            hostile.gets_in("mallo").await?.close().await;
            let quiet = bystander.watch(QUIET).await?;
            let (bound, all) = (&attack.reasons[..1], attack.reasons);
            let before = (counted(cluster, bound).await?, counted(cluster, all).await?);
            let flood = flood(hostile.clone(), attack);
            let (told, flooded) = tokio::join!(flood, bystander.watch(LENGTH));
            let told = told.with_context(|| attack.name.to_owned())?;
            let flooded = flooded.with_context(|| attack.name.to_owned())?;
            let reached = counted(cluster, bound).await? - before.0;
            let counted = counted(cluster, all).await? - before.1;
            report(attack, &told, counted, &quiet, &flooded);
            judge(attack, &told, reached, counted)?;
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

/// On a thread of its own: what others wait for is the cluster, and not the hostile client's turn in their runtime.
async fn flood(hostile: Arc<Hostile>, attack: &'static Attack) -> Result<Told> {
    let flooding = tokio::task::spawn_blocking(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(hostile.run(attack, LENGTH))
    });
    flooding.await?
}

/// The bound was reached, and all that was refused is counted.
fn judge(attack: &Attack, told: &Told, reached: u64, counted: u64) -> Result<()> {
    let name = attack.name;
    ensure!(
        reached > 0 || !attack.must_reach(),
        "{name}: never reached its bound: {told:?}"
    );
    let refused = told.refused;
    ensure!(
        counted >= refused,
        "{name}: {refused} refusals, {counted} counted"
    );
    Ok(())
}

fn report(attack: &Attack, told: &Told, counted: u64, quiet: &Latency, flooded: &Latency) {
    let ratio = flooded.p99_ms / quiet.p99_ms;
    eprintln!(
        "| {} | {} | {} | {} | {counted} | {:.1} ms | {:.1} ms | {ratio:.1} |",
        attack.name, told.asked, told.refused, told.closed, quiet.p99_ms, flooded.p99_ms
    );
}
