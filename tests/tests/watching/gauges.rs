//! The gauges of a node say which node's they are: `parlance dev` runs several in one process.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use parlance_tests::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::wait::until;

use super::SOON;

/// By the rows of docs/metrics.md.
fn documented() -> Result<BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let mut gauges = BTreeSet::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, names, "gauge", labels, ..] = cells[..]
            && names.contains("`parlance_node_")
        {
            let labels: Vec<&str> = labels.split(", ").collect();
            ensure!(labels.contains(&"node"), "without the label node: {line}");
            gauges.extend(names.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    Ok(gauges)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gauge_of_a_node_has_its_id() -> Result<()> {
    let documented = documented()?;
    ensure!(documented.len() > 20, "only {documented:?}");
    let cluster = Cluster::start(ClusterSpec::default()).await?;
    let address = cluster.address.node_ops(1);
    until("all gauges are there", SOON, async || {
        let (_, text) = http_get(address, "/metrics").await?;
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let gauges = types.filter_map(|line| line.strip_suffix(" gauge"));
        let gauges = gauges.filter(|name| name.starts_with("parlance_node_"));
        let gauges: BTreeSet<String> = gauges.map(str::to_owned).collect();
        let missing: Vec<_> = documented.symmetric_difference(&gauges).collect();
        ensure!(missing.is_empty(), "{missing:?}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().context("no name")?;
            let of_node_1 = line.contains(r#"node="1""#);
            ensure!(!gauges.contains(name) || of_node_1, "{line}");
        }
        Ok(())
    })
    .await
}
