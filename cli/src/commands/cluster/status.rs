//! `parlance cluster status`: what one node knows, and what is wrong. A partial answer is an answer.

use parlance_proto::admin::v1::{GetClusterStatusRequest, GetClusterStatusResponse, ShardStatus};
use serde::Serialize;

use crate::admin::Admin;
use crate::commands::Session;
use crate::output::{Output, Tone, say};

#[derive(Serialize)]
struct Status {
    cluster_id: String,
    map_version: u64,
    shard_count: u32,
    meta: Shard,
    answering_node_id: u64,
    version: String,
    feature_level: u32,
    feature_level_possible: u32,
    nodes: Vec<Node>,
    shards: Vec<Shard>,
}

#[derive(Serialize)]
struct Node {
    node_id: u64,
    raft_address: String,
    link_address: String,
    state: String,
    reachable: bool,
    leads: u32,
    replicas: u32,
    version: String,
    feature_level_max: u32,
}

#[derive(Serialize, Default)]
struct Shard {
    shard: u32,
    leader: u64,
    term: u64,
    wanted: Vec<u64>,
    voters: Vec<u64>,
    learners: Vec<u64>,
    applied: u64,
    health: String,
    first_slot: u32,
    last_slot: u32,
    epoch: u64,
    stopped: String,
}

pub(super) async fn run(session: &Session, all_shards: bool) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let status = view(fetch(&mut admin).await?);
    if status.cluster_id.is_empty() {
        say(format!(
            "the node at {} is in no cluster yet: `parlance cluster init` makes one",
            admin.address
        ));
    } else if status.shard_count == 0 {
        say(format!(
            "cluster {} is not made yet: if `parlance cluster init` was cut off, run it again",
            status.cluster_id
        ));
    }
    for node in status
        .nodes
        .iter()
        .filter(|n| n.state == "member" && !n.reachable)
    {
        say(format!(
            "warning: node {} at {} is not reachable",
            node.node_id, node.raft_address
        ));
    }
    if status.feature_level_possible > status.feature_level {
        say(format!(
            "all reachable nodes speak feature level {}: `parlance cluster upgrade` raises it from {}",
            status.feature_level_possible, status.feature_level
        ));
    }
    let shards = [&status.meta].into_iter().chain(&status.shards);
    for shard in shards.filter(|s| !s.stopped.is_empty()) {
        say(format!(
            "warning: the replica of shard {} on node {} has stopped: {}",
            shard.shard, status.answering_node_id, shard.stopped
        ));
    }
    session
        .output
        .print(&status, |output, status| table(output, status, all_shards))
}

/// What the answering node knows.
pub(in crate::commands) async fn fetch(
    admin: &mut Admin,
) -> anyhow::Result<GetClusterStatusResponse> {
    let answer = admin
        .api
        .get_cluster_status(GetClusterStatusRequest {})
        .await;
    Ok(answer
        .map_err(|status| admin.failed("get the cluster's status", &status))?
        .into_inner())
}

fn view(status: GetClusterStatusResponse) -> Status {
    let nodes = status.nodes.into_iter().map(|n| Node {
        node_id: n.node_id,
        raft_address: n.raft_address,
        link_address: n.link_address,
        state: n.state,
        reachable: n.reachable,
        leads: n.leads,
        replicas: n.replicas,
        version: n.version,
        feature_level_max: n.feature_level_max,
    });
    Status {
        cluster_id: status.cluster_id,
        map_version: status.map_version,
        shard_count: status.shard_count,
        meta: status.meta.map(shard_view).unwrap_or_default(),
        answering_node_id: status.answering_node_id,
        version: status.version,
        feature_level: status.feature_level,
        feature_level_possible: status.feature_level_possible,
        nodes: nodes.collect(),
        shards: status.shards.into_iter().map(shard_view).collect(),
    }
}

fn shard_view(shard: ShardStatus) -> Shard {
    Shard {
        shard: shard.shard,
        leader: shard.leader,
        term: shard.term,
        wanted: shard.wanted,
        voters: shard.voters,
        learners: shard.learners,
        applied: shard.applied,
        health: shard.health,
        first_slot: shard.first_slot,
        last_slot: shard.last_slot,
        epoch: shard.epoch,
        stopped: shard.stopped,
    }
}

fn table(output: &Output, status: &Status, all_shards: bool) -> String {
    let healthy = status.shards.iter().filter(|s| s.health == "ok").count();
    let mut text = format!(
        "cluster {}, map version {}, feature level {}, {} of {} shards ok, meta shard {}, led by {} (says node {}, version {})\n\n",
        status.cluster_id,
        status.map_version,
        status.feature_level,
        healthy,
        status.shard_count,
        status.meta.health,
        node_text(status.meta.leader),
        status.answering_node_id,
        status.version
    );
    let mut nodes = output.table(&[
        "NODE",
        "STATE",
        "REACHABLE",
        "LEADS",
        "REPLICAS",
        "RAFT",
        "LINK",
        "VERSION",
    ]);
    for n in &status.nodes {
        let reachable = if n.reachable {
            output.cell("yes", Tone::Good)
        } else {
            output.cell("no", Tone::Bad)
        };
        let mut row = vec![n.node_id.into(), n.state.as_str().into(), reachable];
        row.extend([
            n.leads.into(),
            n.replicas.into(),
            n.raft_address.as_str().into(),
            n.link_address.as_str().into(),
            program(n).into(),
        ]);
        nodes.add_row(row);
    }
    text.push_str(&nodes.to_string());
    let shown: Vec<_> = status
        .shards
        .iter()
        .filter(|s| all_shards || s.health != "ok")
        .collect();
    if !shown.is_empty() {
        let mut shards = output.table(&[
            "SHARD", "SLOTS", "HEALTH", "LEADER", "TERM", "WANTED", "VOTERS", "LEARNERS", "APPLIED",
        ]);
        for s in shown {
            let tone = if s.health == "ok" {
                Tone::Good
            } else {
                Tone::Bad
            };
            let mut row = vec![
                s.shard.into(),
                format!("{}-{}", s.first_slot, s.last_slot).into(),
                output.cell(&s.health, tone),
                node_text(s.leader).into(),
                s.term.into(),
            ];
            row.extend([&s.wanted, &s.voters, &s.learners].map(|ids| list(ids).into()));
            row.push(s.applied.into());
            shards.add_row(row);
        }
        text.push_str("\n\n");
        text.push_str(&shards.to_string());
    }
    text
}

fn program(node: &Node) -> String {
    if node.version.is_empty() {
        "unknown".to_owned()
    } else {
        format!("{} (level {})", node.version, node.feature_level_max)
    }
}

fn node_text(node_id: u64) -> String {
    if node_id == 0 {
        "unknown".to_owned()
    } else {
        node_id.to_string()
    }
}

fn list(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::OutputFormat;
    use parlance_proto::admin::v1::NodeStatus;

    #[test]
    fn only_shards_with_something_to_say_are_listed() {
        let shard = |shard, health: &str| ShardStatus {
            shard,
            health: health.into(),
            leader: 1,
            ..Default::default()
        };
        let status = view(GetClusterStatusResponse {
            cluster_id: "c-1".into(),
            shard_count: 2,
            nodes: vec![NodeStatus {
                node_id: 1,
                state: "member".into(),
                reachable: true,
                ..Default::default()
            }],
            shards: vec![shard(1, "ok"), shard(2, "no_leader")],
            ..Default::default()
        });
        let output = Output::new(OutputFormat::Table);
        let short = table(&output, &status, false);
        assert!(
            short.contains("1 of 2 shards ok") && short.contains("no_leader"),
            "{short}"
        );
        assert_eq!(
            short.matches("\n").count() + 1,
            table(&output, &status, true).matches("\n").count()
        );
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["shards"][1]["health"], "no_leader");
        assert_eq!(json["meta"]["leader"], 0);
    }
}
