//! `parlance cluster status`: what one node knows, and what is wrong. A view, not a verdict: a partial answer is an answer,
//! and the exit code says nothing of the cluster (`check.rs` does).

use parlance_proto::admin::v1::{
    GatewayLinkStatus, GatewayStatus, GetClusterStatusRequest, GetClusterStatusResponse,
    ShardStatus,
};
use serde::Serialize;

use super::certificates::Certificate;
use super::check::Finding;
use super::status_table::table;
use crate::admin::Admin;
use crate::commands::Session;
use crate::output::say;

#[derive(Serialize)]
pub(super) struct Status {
    pub(super) cluster_id: String,
    pub(super) map_version: u64,
    pub(super) shard_count: u32,
    pub(super) meta: Shard,
    pub(super) answering_node_id: u64,
    pub(super) version: String,
    pub(super) feature_level: u32,
    pub(super) feature_level_possible: u32,
    pub(super) nodes: Vec<Node>,
    pub(super) shards: Vec<Shard>,
    pub(super) gateways: Vec<Gateway>,
    pub(super) problems: Vec<Finding>,
    pub(super) notices: Vec<Finding>,
}

#[derive(Serialize)]
pub(super) struct Node {
    pub(super) node_id: u64,
    pub(super) raft_address: String,
    pub(super) link_address: String,
    pub(super) state: String,
    pub(super) reachable: bool,
    pub(super) leads: u32,
    pub(super) replicas: u32,
    pub(super) version: String,
    pub(super) feature_level_max: u32,
    pub(super) disk_free_bytes: u64,
    pub(super) disk_total_bytes: u64,
    pub(super) clock_ahead_ms: i64,
    pub(super) clock_wrong: bool,
    pub(super) stopped: Vec<Stopped>,
    pub(super) certificate: Option<Certificate>,
}

#[derive(Serialize)]
pub(super) struct Stopped {
    pub(super) shard: u32,
    pub(super) reason: String,
}

#[derive(Serialize)]
pub(super) struct Gateway {
    pub(super) gateway_id: String,
    pub(super) version: String,
    pub(super) links: Vec<Link>,
    pub(super) certificate: Option<Certificate>,
}

#[derive(Serialize)]
pub(super) struct Link {
    pub(super) node_id: u64,
    pub(super) connected: bool,
    pub(super) waiting_ms: u64,
}

#[derive(Serialize)]
pub(super) struct Behind {
    pub(super) node_id: u64,
    pub(super) entries: u64,
}

#[derive(Serialize, Default)]
pub(super) struct Shard {
    pub(super) shard: u32,
    pub(super) leader: u64,
    pub(super) term: u64,
    pub(super) wanted: Vec<u64>,
    pub(super) voters: Vec<u64>,
    pub(super) learners: Vec<u64>,
    pub(super) applied: u64,
    pub(super) health: String,
    pub(super) first_slot: u32,
    pub(super) last_slot: u32,
    pub(super) epoch: u64,
    pub(super) stopped: String,
    pub(super) behind: Vec<Behind>,
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
    // Of what is no cluster yet there is nothing else to say.
    for problem in (status.problems.iter()).filter(|_| status.shard_count > 0) {
        say(format!("warning: {}", problem.line()));
    }
    for notice in &status.notices {
        say(format!("note: {}", notice.line()));
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

pub(super) fn view(status: GetClusterStatusResponse) -> Status {
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
        disk_free_bytes: n.disk_free_bytes,
        disk_total_bytes: n.disk_total_bytes,
        clock_ahead_ms: n.clock_ahead_ms,
        clock_wrong: n.clock_wrong,
        stopped: (n.stopped.into_iter())
            .map(|stopped| Stopped {
                shard: stopped.shard,
                reason: stopped.reason,
            })
            .collect(),
        certificate: n.certificate.map(Certificate::from),
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
        gateways: status.gateways.into_iter().map(gateway_view).collect(),
        problems: status.problems.into_iter().map(Finding::from).collect(),
        notices: status.notices.into_iter().map(Finding::from).collect(),
    }
}

fn gateway_view(gateway: GatewayStatus) -> Gateway {
    let link = |link: GatewayLinkStatus| Link {
        node_id: link.node_id,
        connected: link.connected,
        waiting_ms: link.waiting_ms,
    };
    Gateway {
        gateway_id: gateway.gateway_id,
        version: gateway.version,
        links: gateway.links.into_iter().map(link).collect(),
        certificate: gateway.certificate.map(Certificate::from),
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
        behind: (shard.behind.into_iter())
            .map(|behind| Behind {
                node_id: behind.node_id,
                entries: behind.entries,
            })
            .collect(),
    }
}
