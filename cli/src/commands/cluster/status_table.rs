//! The status as tables: nodes, gateways, their certificates, and shards that have something to say.

use super::certificates;
use super::status::{Gateway, Link, Node, Shard, Status};
use crate::output::{Output, Tone};

pub(super) fn table(output: &Output, status: &Status, all_shards: bool) -> String {
    let healthy = status.shards.iter().filter(|s| s.health == "ok").count();
    let mut text = format!(
        "cluster {}, map version {}, feature level {}, {} of {} shards ok, meta shard {}, led by {} (says node {}, version {})\n\n{}",
        status.cluster_id,
        status.map_version,
        status.feature_level,
        healthy,
        status.shard_count,
        status.meta.health,
        node_text(status.meta.leader),
        status.answering_node_id,
        status.version,
        nodes(output, &status.nodes)
    );
    if !status.gateways.is_empty() {
        text.push_str("\n\n");
        text.push_str(&gateways(output, &status.gateways));
    }
    let used = certificates::used(status);
    if !used.is_empty() {
        text.push_str("\n\n");
        text.push_str(&certificates::table(output, &used));
    }
    let shown: Vec<_> = status
        .shards
        .iter()
        .filter(|s| all_shards || s.health != "ok")
        .collect();
    if !shown.is_empty() {
        text.push_str("\n\n");
        text.push_str(&shards(output, &shown));
    }
    text
}

fn nodes(output: &Output, nodes: &[Node]) -> String {
    let mut table = output.table(&[
        "NODE",
        "STATE",
        "REACHABLE",
        "LEADS",
        "REPLICAS",
        "STOPPED",
        "DISK FREE",
        "RAFT",
        "LINK",
        "VERSION",
    ]);
    for n in nodes {
        let reachable = if n.reachable {
            output.cell("yes", Tone::Good)
        } else {
            output.cell("no", Tone::Bad)
        };
        let stopped = match n.stopped.len() {
            0 => output.cell(0, Tone::Plain),
            some => output.cell(some, Tone::Bad),
        };
        let mut row = vec![n.node_id.into(), n.state.as_str().into(), reachable];
        row.extend([n.leads.into(), n.replicas.into(), stopped]);
        row.extend([
            disk(n).into(),
            n.raft_address.as_str().into(),
            n.link_address.as_str().into(),
            program(n).into(),
        ]);
        table.add_row(row);
    }
    table.to_string()
}

fn gateways(output: &Output, gateways: &[Gateway]) -> String {
    let mut table = output.table(&["GATEWAY", "LINKED TO NODES", "VERSION"]);
    for g in gateways {
        let linked = g.links.iter().filter(|link| link.connected);
        table.add_row([
            g.gateway_id.clone(),
            linked.map(link).collect::<Vec<_>>().join(","),
            g.version.clone(),
        ]);
    }
    table.to_string()
}

/// A link that waits says so: one that works has nothing unacknowledged for more than a moment.
fn link(link: &Link) -> String {
    if link.waiting_ms < 1_000 {
        link.node_id.to_string()
    } else {
        format!("{} (waits {} s)", link.node_id, link.waiting_ms / 1_000)
    }
}

fn shards(output: &Output, shards: &[&Shard]) -> String {
    let mut table = output.table(&[
        "SHARD", "SLOTS", "HEALTH", "LEADER", "TERM", "WANTED", "VOTERS", "LEARNERS", "BEHIND",
        "APPLIED",
    ]);
    for s in shards {
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
        let behind = s.behind.iter().map(|b| b.node_id).collect::<Vec<_>>();
        row.extend([list(&behind).into(), s.applied.into()]);
        table.add_row(row);
    }
    table.to_string()
}

fn disk(node: &Node) -> String {
    if node.disk_total_bytes == 0 {
        return "unknown".to_owned();
    }
    let percent = node.disk_free_bytes.saturating_mul(100) / node.disk_total_bytes;
    format!("{} GiB ({percent} %)", node.disk_free_bytes >> 30)
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
    use super::super::status::view;
    use super::*;
    use crate::args::OutputFormat;
    use parlance_proto::admin::v1::{
        GatewayLinkStatus, GatewayStatus, GetClusterStatusResponse, NodeStatus, ShardStatus,
    };

    #[test]
    fn only_shards_with_something_to_say_are_listed() {
        let shard = |shard, health: &str| ShardStatus {
            shard,
            health: health.into(),
            leader: 1,
            ..Default::default()
        };
        let link = |node_id, waiting_ms| GatewayLinkStatus {
            node_id,
            connected: true,
            waiting_ms,
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
            gateways: vec![GatewayStatus {
                gateway_id: "g1".into(),
                links: vec![link(1, 12), link(2, 7_500)],
                ..Default::default()
            }],
            ..Default::default()
        });
        let output = Output::new(OutputFormat::Table);
        let short = table(&output, &status, false);
        assert!(
            short.contains("1 of 2 shards ok") && short.contains("no_leader"),
            "{short}"
        );
        assert!(short.contains("1,2 (waits 7 s)"), "{short}");
        assert_eq!(
            short.matches("\n").count() + 1,
            table(&output, &status, true).matches("\n").count()
        );
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["shards"][1]["health"], "no_leader");
        assert_eq!(json["meta"]["leader"], 0);
    }
}
