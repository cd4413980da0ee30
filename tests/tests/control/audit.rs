//! The nodes' logs: who did what, in lines that a program can read, and nothing that is secret.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use parlance_proto::admin::v1::ListAppsRequest;
use parlance_proto::admin::v1::admin_client::AdminClient;
use parlance_proto::tls::Role;
use parlance_tests::admin::channel;
use parlance_tests::cluster::Cluster;
use parlance_tests::logs;
use serde_json::Value;

/// What the test has done as an operator: the action, how it ended, and how often at least.
const DONE: &[(&str, &str, usize)] = &[
    ("cluster init", "ok", 1),
    ("app create", "ok", 3),
    ("app change", "ok", 2),
    ("app secret add", "ok", 1),
    ("app secret add", "precondition_failed", 1),
    ("app secret read", "ok", 2),
    ("app secret retire", "ok", 1),
    ("app secret retire", "precondition_failed", 1),
    ("app secrets followed", "ok", 2),
    ("app list", "permission_denied", 1),
    ("user kick", "ok", 3),
    ("user kick", "not_found", 1),
];

pub(crate) async fn every_step_is_in_a_log(cluster: &Cluster) -> Result<()> {
    let address = cluster.address.link(1).to_string();
    let gateway = cluster
        .authority
        .issue("curious", Role::Gateway("curious".into()))?;
    let curious = channel(&address, &cluster.operator.ca, Some(&gateway)).await?;
    let refused = AdminClient::new(curious)
        .list_apps(ListAppsRequest::default())
        .await;
    ensure!(refused.is_err(), "a gateway's certificate on the admin API");

    let mut found: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for process in cluster.processes() {
        let text = logs::read(process.log())?;
        ensure!(!text.contains("psk_"), "{} logs a secret", process.name);
        for line in text
            .lines()
            .filter(|line| line.contains(r#""target":"audit""#))
        {
            let line: Value = serde_json::from_str(line)?;
            let word = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            ensure!(
                word("level") == "INFO"
                    && word("address").starts_with("127.")
                    && !word("certificate").is_empty(),
                "{line}"
            );
            *found.entry((word("action"), word("outcome"))).or_default() += 1;
            *names.entry(word("who")).or_insert(0) += 1;
        }
    }
    for (action, outcome, least) in DONE {
        let times = found.get(&((*action).to_owned(), (*outcome).to_owned()));
        ensure!(
            times >= Some(least),
            "{action}, {outcome}: {times:?} of {least} in {found:?}"
        );
    }
    for who in ["cli", "operator", "curious", "gateway-1"] {
        ensure!(names.contains_key(who), "nothing of {who:?} in {names:?}");
    }
    let mut counted = 0.0;
    for node_id in cluster.nodes.keys() {
        let label = r#"action="user kick",outcome="ok""#;
        counted += cluster
            .node_metric(*node_id, "parlance_node_audited_total", label)
            .await?;
    }
    ensure!(counted >= 1.0, "kicks were not counted");
    Ok(())
}
