//! `parlance cluster check`: a verdict for scripts. Exit code 0 and one line if all is well; else 1, what is wrong, and
//! what to do. What counts as wrong is judged by the node that answers.

use std::time::Duration;

use anyhow::{Context, anyhow};
use parlance_proto::admin::v1::{GetClusterStatusResponse, Problem};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::fetch;
use crate::admin::Admin;
use crate::commands::Session;
use crate::context::ClusterContext;
use crate::output::{Output, say};

/// A node that takes the connection and does not answer must not keep the verdict back.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Verdict {
    ok: bool,
    cluster_id: String,
    answering_node_id: u64,
    nodes: usize,
    shards: u32,
    gateways: usize,
    problems: Vec<Finding>,
    notices: Vec<Finding>,
}

/// What is wrong, or wants to be done.
#[derive(Serialize)]
pub(super) struct Finding {
    kind: String,
    what: String,
    remedy: String,
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        Self {
            kind: problem.kind,
            what: problem.what,
            remedy: problem.remedy,
        }
    }
}

impl Finding {
    /// In one line.
    pub(super) fn line(&self) -> String {
        format!("{} ({}): {}", self.what, self.kind, self.remedy)
    }
}

/// Looks until all is well or `wait` is over; the last look counts.
pub(super) async fn run(session: &Session, wait: Option<Duration>) -> anyhow::Result<()> {
    let context = session.resolve()?.context;
    let deadline = wait.map(|wait| Instant::now() + wait);
    let mut told = String::new();
    let verdict = loop {
        let look = timeout(ANSWER_TIMEOUT, look(&context)).await;
        let look = look.unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER_TIMEOUT:?}")));
        let is_well = look.as_ref().is_ok_and(|verdict| verdict.ok);
        if is_well || deadline.is_none_or(|deadline| Instant::now() + PAUSE > deadline) {
            break look.context("check the cluster")?;
        }
        let waits_for = waits_for(&look);
        if waits_for != told {
            say(format!("waiting: {waits_for}"));
            told = waits_for;
        }
        sleep(PAUSE).await;
    };
    session.output.print(&verdict, text)?;
    match verdict.problems.len() {
        0 => Ok(()),
        1 => Err(anyhow!("something is wrong with the cluster")),
        more => Err(anyhow!("{more} things are wrong with the cluster")),
    }
}

async fn look(context: &ClusterContext) -> anyhow::Result<Verdict> {
    let mut admin = Admin::connect(context).await?;
    Ok(verdict(fetch(&mut admin).await?, &admin.address))
}

fn verdict(status: GetClusterStatusResponse, asked: &str) -> Verdict {
    let mut problems: Vec<Finding> = status.problems.into_iter().map(Finding::from).collect();
    if status.cluster_id.is_empty() {
        problems = vec![Finding {
            kind: "no_cluster".to_owned(),
            what: format!("the node at {asked} is in no cluster yet"),
            remedy: "parlance cluster init makes one; else ask another node with --server"
                .to_owned(),
        }];
    }
    let members = status.nodes.iter().filter(|n| n.state == "member");
    Verdict {
        ok: problems.is_empty(),
        cluster_id: status.cluster_id,
        answering_node_id: status.answering_node_id,
        nodes: members.count(),
        shards: status.shard_count,
        gateways: status.gateways.len(),
        problems,
        notices: status.notices.into_iter().map(Finding::from).collect(),
    }
}

fn waits_for(look: &anyhow::Result<Verdict>) -> String {
    match look {
        Ok(verdict) => {
            let problems = verdict.problems.iter();
            let problems: Vec<&str> = problems.map(|found| found.what.as_str()).collect();
            problems.join("; ")
        }
        Err(error) => format!("{error:#}"),
    }
}

fn text(_: &Output, verdict: &Verdict) -> String {
    let mut text = String::new();
    for found in &verdict.problems {
        text.push_str(&format!(
            "wrong: {}\n  kind: {}\n  do: {}\n",
            found.what, found.kind, found.remedy
        ));
    }
    if verdict.ok {
        text.push_str(&format!(
            "cluster {} is well: {} nodes, {} shards, {} gateways (says node {})\n",
            verdict.cluster_id,
            verdict.nodes,
            verdict.shards,
            verdict.gateways,
            verdict.answering_node_id
        ));
    }
    for found in &verdict.notices {
        text.push_str(&format!("note: {}\n", found.line()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::OutputFormat;

    fn said(status: GetClusterStatusResponse) -> (bool, String) {
        let verdict = verdict(status, "127.0.0.1:7100");
        let output = Output::new(OutputFormat::Table);
        (verdict.ok, text(&output, &verdict))
    }

    #[test]
    fn all_is_well_in_one_line_and_what_is_wrong_says_what_to_do() {
        let well = || GetClusterStatusResponse {
            cluster_id: "c-1".into(),
            answering_node_id: 2,
            shard_count: 4,
            ..GetClusterStatusResponse::default()
        };
        let (ok, text) = said(well());
        assert!(ok && text.lines().count() == 1, "{text}");
        let problem = Problem {
            kind: "node_unheard".into(),
            what: "node 3 is not heard".into(),
            remedy: "look at it".into(),
        };
        let (ok, text) = said(GetClusterStatusResponse {
            problems: vec![problem.clone()],
            ..well()
        });
        assert!(!ok && text.contains("node 3 is not heard") && text.contains("do: look at it"));
        let (ok, text) = said(GetClusterStatusResponse {
            notices: vec![problem],
            ..well()
        });
        assert!(ok && text.contains("note: node 3 is not heard"), "{text}");
        let (ok, text) = said(GetClusterStatusResponse::default());
        assert!(!ok && text.contains("in no cluster yet"), "{text}");
    }
}
