//! Dashboards and alert rules name metrics that there are, in expressions that parse, and runbooks that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use parlance_tests::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::Allowed;
use parlance_tests::story::tell;
use parlance_tests::wait::until;
use serde::Deserialize;
use serde_json::Value;

use super::SOON;
use super::promql;

/// What the code calls its metrics.
const SOURCES: &[&str] = &[
    "node/src/metrics.rs",
    "node/src/metrics/figures.rs",
    "node/src/raft/metrics.rs",
    "gateway/src/metrics.rs",
    "cli/src/telemetry.rs",
    "tls/src/metrics.rs",
];
/// Counted by what a calm cluster does not do: they appear with the first time.
const NOT_WHEN_CALM: &[&str] = &[
    "parlance_gateway_closed_total",
    "parlance_gateway_refusals_total",
    "parlance_gateway_retries_total",
    "parlance_node_links_closed_total",
    "parlance_node_peer_dropped_total",
    "parlance_node_proposals_refused_total",
    "parlance_node_relays_retried_total",
    "parlance_node_requests_refused_total",
    "parlance_node_snapshots_total",
];
/// All labels that there are; one for each shard has one metric only.
const LABELS: &[&str] = &[
    "action",
    "certificate",
    "code",
    "commit",
    "follower",
    "kind",
    "lane",
    "le",
    "node",
    "outcome",
    "reason",
    "result",
    "stage",
    "state",
    "step",
    "store",
    "version",
    "why",
];
const OF_SHARDS: &str = "parlance_node_shard_commands_total";
/// What people who chat make grow.
const MEASURED: &[&str] = &[
    "parlance_gateway_request_seconds_count{kind=\"login\"}",
    "parlance_gateway_request_seconds_count{kind=\"send\"}",
    "parlance_gateway_delivery_seconds_count",
    "parlance_gateway_received_bytes_total",
    "parlance_gateway_sent_bytes_total",
    "parlance_gateway_connections{stage=\"open\"}",
    "parlance_node_commit_seconds_count",
    "parlance_node_delivery_seconds_count",
    "parlance_node_disk_free_bytes",
    "parlance_node_replicas{node=\"1\",state=\"leading\"}",
    "parlance_node_shard_commands_total",
    "parlance_node_store_memory_bytes",
    "process_resident_memory_bytes",
];
/// Of Prometheus itself.
const UP: &str = "up";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> Result<String> {
    std::fs::read_to_string(root().join(name)).with_context(|| name.to_owned())
}

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    lasts: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn rules() -> Result<Vec<Rule>> {
    let rules: Rules = serde_saphyr::from_str(&read("deploy/alerts/parlance.yaml")?)?;
    Ok(rules.groups.into_iter().flat_map(|g| g.rules).collect())
}

/// The expressions of all dashboards, each with where it stands.
fn of_dashboards() -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(root().join("deploy/grafana"))? {
        let path = file?.path();
        let board: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        let panels = board["panels"].as_array().context("no panels")?;
        let mut places = BTreeSet::new();
        for panel in panels {
            let title = panel["title"].as_str().context("a panel without a title")?;
            let place = &panel["gridPos"];
            ensure!(
                places.insert((place["y"].as_u64(), place["x"].as_u64())),
                "{title:?} of {path:?} lies on another panel"
            );
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().context("a target without expr")?;
                found.push((format!("{path:?}, {title}"), expression.to_owned()));
            }
        }
    }
    ensure!(found.len() > 50, "the dashboards were not found");
    Ok(found)
}

/// Every metric that an alert or a dashboard names, and where. Parts of a histogram count for it.
fn named() -> Result<BTreeMap<String, String>> {
    let mut expressions = of_dashboards()?;
    for rule in rules()? {
        expressions.push((rule.alert, rule.expr));
    }
    let known = known()?;
    let mut all = BTreeMap::new();
    for (place, expression) in expressions {
        let metrics =
            promql::metrics(&expression).with_context(|| format!("{place}: {expression}"));
        for metric in metrics? {
            let parts = ["_bucket", "_sum", "_count"].iter();
            let mut whole = parts.filter_map(|part| metric.strip_suffix(part));
            let whole = whole.find(|whole| known.contains(*whole));
            all.insert(whole.unwrap_or(&metric).to_owned(), place.clone());
        }
    }
    all.remove(UP);
    Ok(all)
}

fn known() -> Result<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    for source in SOURCES {
        let text = read(source)?;
        let quoted = text.split('"').filter(|text| text.starts_with("parlance_"));
        known.extend(quoted.map(str::to_owned));
    }
    ensure!(known.len() > 50, "the metrics were not found: {known:?}");
    Ok(known)
}

#[test]
fn every_metric_of_a_dashboard_or_an_alert_is_one_of_the_codes() -> Result<()> {
    let known = known()?;
    let (ours, others): (Vec<_>, Vec<_>) =
        (named()?.into_iter()).partition(|(metric, _)| metric.starts_with("parlance_"));
    let unknown: Vec<_> = ours.iter().filter(|(m, _)| !known.contains(m)).collect();
    ensure!(unknown.is_empty(), "no such metrics: {unknown:?}");
    let strange: Vec<_> = (others.iter())
        .filter(|(metric, _)| !metric.starts_with("process_"))
        .collect();
    ensure!(strange.is_empty(), "whose metrics are these? {strange:?}");
    Ok(())
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() -> Result<()> {
    let operations = read("docs/operations.md")?;
    let headings: BTreeSet<String> = (operations.lines())
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let mut names = BTreeSet::new();
    for rule in rules()? {
        let alert = &rule.alert;
        ensure!(names.insert(alert.clone()), "{alert} is there twice");
        let severity = rule.labels.get("severity").map(String::as_str);
        ensure!(
            matches!(severity, Some("critical" | "warning" | "info")),
            "{alert}: {severity:?}"
        );
        ensure!(rule.annotations.contains_key("summary"), "{alert}");
        let lasts = rule.lasts.as_deref().unwrap_or("0m");
        ensure!(
            promql::metrics(&format!("x[{lasts}]")).is_ok(),
            "{alert}: {lasts}"
        );
        let runbook = rule.annotations.get("runbook").context("no runbook")?;
        let section = runbook.strip_prefix("docs/operations.md#");
        ensure!(
            section.is_some_and(|section| headings.contains(section)),
            "{alert}: {runbook} is not there"
        );
    }
    Ok(())
}

/// Whatever Prometheus would get from all processes.
async fn exposed(cluster: &Cluster) -> Result<String> {
    let nodes = cluster.nodes.keys().map(|id| cluster.address.node_ops(*id));
    let gateways = (1..=cluster.gateways.len()).map(|number| cluster.address.gateway_ops(number));
    let mut all = String::new();
    for address in nodes.chain(gateways) {
        let (status, text) = http_get(address, "/metrics").await?;
        ensure!(status == 200, "{address}: {status}");
        all.push_str(&text);
    }
    Ok(all)
}

/// The sum of all lines that begin so.
fn sum(exposed: &str, begin: &str) -> f64 {
    let lines = exposed.lines().filter(|line| line.starts_with(begin));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// The metrics of an exposition, and the labels of each.
fn series(exposed: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in exposed.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once(['{', ' ']) else {
            continue;
        };
        let labels = found.entry(name).or_default();
        if line[name.len()..].starts_with('{') {
            let names = rest
                .split("=\"")
                .filter_map(|part| part.split(['"', ',']).next_back());
            let count = rest.matches("=\"").count();
            labels.extend(names.take(count));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_cluster_has_what_dashboards_and_alerts_look_at() -> Result<()> {
    let named = named()?;
    tell(
        ClusterSpec::default(),
        Allowed::default(),
        async |cluster| {
            until("every metric is there", SOON, async || {
                let text = exposed(cluster).await?;
                let has = |metric: &str| {
                    text.contains(&format!("# TYPE {metric} ")) || NOT_WHEN_CALM.contains(&metric)
                };
                let missing: Vec<_> = named.iter().filter(|(metric, _)| !has(metric)).collect();
                ensure!(missing.is_empty(), "not exposed: {missing:#?}");
                for begin in MEASURED {
                    ensure!(sum(&text, begin) > 0.0, "nothing was measured: {begin}");
                }
                Ok(())
            })
            .await?;
            let text = exposed(cluster).await?;
            for (metric, labels) in series(&text) {
                let is_known = |label: &&str| {
                    LABELS.contains(label) || (*label == "shard" && metric == OF_SHARDS)
                };
                let strange: Vec<_> = labels.iter().filter(|label| !is_known(label)).collect();
                ensure!(strange.is_empty(), "{metric} has the labels {strange:?}");
            }
            let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            for metric in typed.filter_map(|line| line.split(' ').next()) {
                ensure!(
                    text.contains(&format!("# HELP {metric} ")),
                    "{metric} does not say what it is"
                );
            }
            Ok(())
        },
    )
    .await
}

#[test]
fn labels_are_found_in_an_exposition() {
    let text = "# TYPE a counter\na{x=\"1,2\",y=\"3\"} 4\nb 5\na{z=\"6\"} 7\n";
    let found = series(text);
    assert_eq!(
        found["a"].iter().copied().collect::<Vec<_>>(),
        ["x", "y", "z"]
    );
    assert!(found["b"].is_empty());
}
