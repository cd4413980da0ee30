//! `cluster check` on real processes: 0 when all is well, 1 and a name when something is not.

use anyhow::{Context, Result, ensure};
use parlance_proto::link::v1::{Heads, request};
use parlance_proto::tls::Role;
use parlance_tests::cli::{DONE, FAILED, Shell};
use parlance_tests::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, ClusterSpec, START_WITHIN};
use parlance_tests::logs::Allowed;
use parlance_tests::node_link::{self, LinkAddress, NodeLink};
use parlance_tests::story::tell;
use parlance_tests::wait::until;
use serde_json::Value;

use super::SOON;

/// The verdict as data, with the exit code that it must have.
async fn verdict(shell: &Shell) -> Result<Value> {
    let said = shell.run_json(&["cluster", "check"]).await?;
    let verdict = said.json()?;
    let expected = if verdict["ok"] == true { DONE } else { FAILED };
    ensure!(said.code == expected, "{said:?}");
    Ok(verdict)
}

/// Waits until the check finds a problem of this kind that names `who`.
pub async fn is_found(shell: &Shell, kind: &str, who: &str) -> Result<()> {
    until(&format!("{kind} of {who} is found"), SOON, async || {
        let verdict = verdict(shell).await?;
        let problems = verdict["problems"].as_array().context("no problems")?;
        let found = problems.iter().any(|problem| {
            problem["kind"] == kind && problem["what"].as_str().is_some_and(|t| t.contains(who))
        });
        ensure!(found, "{verdict}");
        Ok(())
    })
    .await
}

/// Waits as an operator does.
pub async fn becomes_well(shell: &Shell) -> Result<()> {
    let said = shell.run(&["cluster", "check", "--wait", "50s"]).await?;
    ensure!(
        said.code == DONE && said.stdout.lines().count() == 1,
        "{said:?}"
    );
    Ok(())
}

/// What a node's readiness says.
pub async fn readiness(cluster: &Cluster, node_id: u64) -> Result<(u16, String)> {
    http_get(cluster.address.node_ops(node_id), "/readyz").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_or_freezes_is_named_until_it_is_back() -> Result<()> {
    tell(
        ClusterSpec::default(),
        Allowed::default(),
        async |cluster| {
            let shell = Shell::new(cluster)?;
            becomes_well(&shell).await?;
            until("the gateways are known", SOON, async || {
                let well = verdict(&shell).await?;
                ensure!(
                    well["nodes"] == 3 && well["gateways"] == 2 && well["shards"] == 4,
                    "{well}"
                );
                Ok(())
            })
            .await?;

            cluster.node(3)?.kill()?;
            is_found(&shell, "node_unheard", "node 3").await?;
            let said = shell.run(&["cluster", "check", "--wait", "1s"]).await?;
            ensure!(
                said.code == FAILED && said.stdout.contains("parlance node replace 3"),
                "{said:?}"
            );
            let status = shell.run(&["cluster", "status"]).await?;
            ensure!(
                status.code == DONE && status.stderr.contains("node 3"),
                "a view is no verdict: {status:?}"
            );
            let (code, notes) = readiness(cluster, 1).await?;
            ensure!(code == 200 && notes.contains("node 3"), "{code} {notes}");
            cluster.node(3)?.start()?;
            becomes_well(&shell).await?;

            cluster.node(2)?.freeze()?;
            is_found(&shell, "node_unheard", "node 2").await?;
            let (code, notes) = http_get(cluster.address.gateway_ops(1), "/readyz").await?;
            ensure!(code == 200, "one node is no reason to go: {code} {notes}");
            until("the gateway notes the link", SOON, async || {
                let (_, notes) = http_get(cluster.address.gateway_ops(1), "/readyz").await?;
                ensure!(notes.contains("node 2"), "{notes}");
                Ok(())
            })
            .await?;
            cluster.node(2)?.thaw()?;
            becomes_well(&shell).await
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_majority_is_told_by_the_node_that_is_left() -> Result<()> {
    let spec = ClusterSpec {
        gateways: 1,
        ..ClusterSpec::default()
    };
    let mut cluster = Cluster::start(spec).await?;
    let shell = Shell::new(&cluster)?;
    becomes_well(&shell).await?;
    for node_id in [2, 3] {
        cluster.node(node_id)?.kill()?;
    }
    is_found(
        &shell,
        "no_majority",
        "the meta shard and shards 1, 2, 3, 4",
    )
    .await?;
    for node_id in [2, 3] {
        cluster.node(node_id)?.start()?;
    }
    becomes_well(&shell).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_does_not_acknowledge_shows_everywhere() -> Result<()> {
    tell(
        ClusterSpec::default(),
        Allowed::default(),
        async |cluster| {
            let shell = Shell::new(cluster)?;
            becomes_well(&shell).await?;
            let identity = cluster
                .authority
                .issue("probe", Role::Gateway("probe".into()))?;
            let mut silent = NodeLink::open(&LinkAddress {
                node: cluster.address.link(1).to_string(),
                gateway_id: "probe".to_owned(),
                identity,
            })
            .await?;
            let heads = request::Body::Heads(Heads::default());
            ensure!(silent.ask(vec![(1, heads)]).is_some());
            is_found(&shell, "link_wedged", "gateway probe").await?;
            is_found(
                &shell,
                "gateway_unlinked",
                "gateway probe has no link to node 2",
            )
            .await?;
            let waits = cluster
                .node_metric(1, "parlance_node_link_waiting_seconds", "")
                .await?;
            ensure!(waits > 5.0, "{waits}");
            let (code, notes) = readiness(cluster, 1).await?;
            ensure!(code == 200 && notes.contains("probe"), "{code} {notes}");
            let status = shell.data(&["cluster", "status"]).await?;
            let gateways = status["gateways"].as_array().context("no gateways")?;
            let probe = gateways.iter().find(|g| g["gateway_id"] == "probe");
            ensure!(
                probe.is_some_and(|probe| probe["version"] == node_link::VERSION),
                "{status}"
            );
            drop(silent);
            becomes_well(&shell).await
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_no_cluster_is_not_well() -> Result<()> {
    let mut cluster = Cluster::prepare(ClusterSpec {
        nodes: 1,
        gateways: 0,
        ..ClusterSpec::default()
    })?;
    let shell = Shell::new(&cluster)?;
    let said = shell.run(&["cluster", "check"]).await?;
    ensure!(
        said.code == FAILED && said.stderr.contains("no node answers"),
        "{said:?}"
    );
    cluster.node(1)?.start()?;
    cluster.wait_admin_answers(START_WITHIN).await?;
    is_found(&shell, "no_cluster", "in no cluster").await?;
    let specs = vec![cluster.node_spec(1)];
    cluster.admin(1).await?.init(specs, 2).await?;
    becomes_well(&shell).await
}

/// Kinds are for programs: the table has all of them, and no other.
#[test]
fn every_kind_of_problem_has_a_row() -> Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = String::new();
    for folder in ["node/src/admin/problems", "cli/src/commands/cluster"] {
        for file in std::fs::read_dir(root.join(folder))? {
            let text = std::fs::read_to_string(file?.path())?;
            sources.push_str(text.split("#[cfg(test)]").next().unwrap_or_default());
        }
    }
    let document = std::fs::read_to_string(root.join("docs/operations.md"))?;
    let table = document.split("| kind | what is wrong").nth(1);
    let table = table.and_then(|rest| rest.split("\n\n").next());
    let rows = table.context("no table")?.lines().skip(2);
    let mut told = Vec::new();
    for row in rows {
        let cell = row.split('|').nth(1).unwrap_or_default();
        told.extend(cell.split('`').skip(1).step_by(2));
    }
    ensure!(told.len() > 10, "{told:?}");
    for kind in &told {
        ensure!(
            sources.contains(&format!("\"{kind}\"")),
            "nobody says {kind}"
        );
    }
    for (at, _) in sources.match_indices("problem(\n") {
        let kind = sources[at..].split('"').nth(1).unwrap_or_default();
        let is_first = sources[at..]
            .trim_start_matches("problem(\n")
            .trim_start()
            .starts_with('"');
        ensure!(!is_first || told.contains(&kind), "{kind} has no row");
    }
    Ok(())
}
