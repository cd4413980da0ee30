//! The cluster as one node sees it, with what the others say of themselves.

use std::collections::{BTreeMap, BTreeSet};

use parlance_proto::admin::v1::{
    Behind, CertificateStatus, GatewayLinkStatus, GatewayStatus, GetClusterStatusResponse,
    NodeStatus, ShardStatus, StoppedReplica,
};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{CertificateInUse, NodeHealth};
use parlance_proto::store::v1::{ClusterMap, MapNode, MapShard, NodeState};
use parlance_proto::tls::Serial;

use super::problems::{notices, problems};
use super::upgrade::levels_of_members;
use crate::cluster::{ClusterView, LeadReport, Runtime, common_level};
use crate::meta::MetaState;
use crate::raft::ReplicaStatus;

/// What this node knows of nodes and shards.
pub(super) fn cluster_status(runtime: &Runtime) -> GetClusterStatusResponse {
    let view = runtime.view();
    let state = view.state();
    let heard = levels_of_members(view, &state);
    let levels = heard.into_iter().filter_map(|(_, levels)| levels);
    let nodes = state.map().into_iter().flat_map(|map| &map.nodes);
    let nodes = nodes.map(|node| node_status(view, &state, node));
    let shards = state.shards().iter();
    let health = health_of_members(view, &state);
    let mut status = GetClusterStatusResponse {
        cluster_id: runtime.identity().cluster_id.clone(),
        map_version: state.version(),
        shard_count: state.routes().len() as u32,
        nodes: nodes.collect(),
        shards: shards.map(|shard| shard_status(view, shard)).collect(),
        meta: state.map().map(|map| meta_status(view, map)),
        answering_node_id: view.node_id.0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: state.map().map_or(0, |map| map.feature_level),
        feature_level_possible: common_level(levels).unwrap_or(0),
        gateways: gateways(&health),
        problems: Vec::new(),
        notices: Vec::new(),
    };
    let now_ms = runtime.environment().now_ms();
    status.problems = problems(&status, &health, now_ms);
    status.notices = notices(&status, now_ms);
    status
}

/// What is wrong, for people.
pub fn notes(runtime: &Runtime) -> Vec<String> {
    let problems = cluster_status(runtime).problems.into_iter();
    problems.map(|problem| problem.what).collect()
}

/// What each member that was heard has found out about itself.
fn health_of_members(view: &ClusterView, state: &MetaState) -> BTreeMap<u64, NodeHealth> {
    let members = state.members().map(MapNode::id);
    members
        .filter_map(|id| Some((id.0, view.heard.of(id)?.health)))
        .collect()
}

/// The links that nodes say they have, by gateway.
fn gateways(health: &BTreeMap<u64, NodeHealth>) -> Vec<GatewayStatus> {
    let mut gateways: BTreeMap<&str, GatewayStatus> = BTreeMap::new();
    for (node_id, health) in health {
        for link in &health.links {
            let gateway = gateways.entry(&link.gateway_id).or_default();
            gateway.gateway_id.clone_from(&link.gateway_id);
            gateway.version.clone_from(&link.version);
            gateway.certificate = certificate_status(link.certificate.as_ref());
            gateway.links.push(GatewayLinkStatus {
                node_id: *node_id,
                connected: link.connected,
                waiting_ms: link.waiting_ms,
            });
        }
    }
    gateways.into_values().collect()
}

fn certificate_status(used: Option<&CertificateInUse>) -> Option<CertificateStatus> {
    let used = used?;
    Some(CertificateStatus {
        serial_hex: Serial::from_bytes(&used.serial).ok()?.to_string(),
        expires_s: used.expires_s,
    })
}

fn node_status(view: &ClusterView, state: &MetaState, node: &MapNode) -> NodeStatus {
    let id = node.id();
    let count = |holds: &dyn Fn(&MapShard) -> bool| {
        state.shards().iter().filter(|shard| holds(shard)).count() as u32
    };
    let is_member = node.state() == NodeState::Member;
    let heard = view.heard.of(id);
    let disk = heard.as_ref().map(|heard| &heard.health);
    let stopped = heard.iter().flat_map(|heard| &heard.stopped);
    NodeStatus {
        node_id: id.0,
        raft_address: node.raft_address.clone(),
        link_address: node.link_address.clone(),
        state: if is_member { "member" } else { "removed" }.to_owned(),
        reachable: is_member && view.is_reachable(id),
        leads: count(&|shard| view.leaders.of(shard.id()) == Some(id)),
        replicas: count(&|shard| shard.is_on(id)),
        feature_level_max: heard
            .as_ref()
            .and_then(|heard| heard.levels)
            .map_or(0, |levels| levels.max),
        disk_free_bytes: disk.map_or(0, |disk| disk.disk_free_bytes),
        disk_total_bytes: disk.map_or(0, |disk| disk.disk_total_bytes),
        stopped: stopped
            .map(|(shard, reason)| StoppedReplica {
                shard: shard.0,
                reason: reason.clone(),
            })
            .collect(),
        certificate: disk.and_then(|said| certificate_status(said.certificate.as_ref())),
        version: heard.map(|heard| heard.version).unwrap_or_default(),
        clock_ahead_ms: view.clock.ahead_ms(id).unwrap_or(0),
        clock_wrong: view.clock.is_far(id),
    }
}

fn meta_status(view: &ClusterView, map: &ClusterMap) -> ShardStatus {
    let shard = MapShard {
        shard: ShardId::META.0,
        replicas: map.meta_replicas.clone(),
        ..MapShard::default()
    };
    status_of(view, &shard, Some(view.meta_shard.status()))
}

fn shard_status(view: &ClusterView, shard: &MapShard) -> ShardStatus {
    let here = view.shards.get(shard.id());
    status_of(view, shard, here.map(|here| here.raft().status()))
}

fn status_of(view: &ClusterView, shard: &MapShard, local: Option<ReplicaStatus>) -> ShardStatus {
    let id = shard.id();
    let leader = view.leaders.of(id);
    let stopped = shard.voters().any(|node| view.heard.has_stopped(node, id));
    let seen = Seen {
        leader_is_reachable: leader.is_some_and(|leader| view.is_reachable(leader)),
        stopped,
        report: view.heard.report(id),
        all_reachable: shard.voters().all(|node| view.is_reachable(node)),
    };
    let behind = seen.report.iter().flat_map(|report| &report.behind);
    let behind = behind.map(|(node, entries)| Behind {
        node_id: node.0,
        entries: *entries,
    });
    let behind = behind.collect();
    let health = health(shard, &seen, local.as_ref());
    let local = local.unwrap_or_default();
    ShardStatus {
        shard: id.0,
        leader: NodeId::or_zero(leader),
        term: local.term,
        wanted: shard.replicas.clone(),
        voters: numbers(local.voters),
        learners: numbers(local.learners),
        applied: local.applied,
        health: health.to_owned(),
        first_slot: shard.first_slot,
        last_slot: shard.last_slot,
        epoch: shard.epoch,
        stopped: local.stopped.unwrap_or_default(),
        behind,
    }
}

fn numbers(nodes: BTreeSet<NodeId>) -> Vec<u64> {
    nodes.into_iter().map(|node| node.0).collect()
}

/// What this node sees of one shard.
struct Seen {
    leader_is_reachable: bool,
    stopped: bool,
    report: Option<LeadReport>,
    all_reachable: bool,
}

/// The worst first. The leader's word counts; of a shard whose leader said nothing yet, the replica here.
fn health(shard: &MapShard, seen: &Seen, local: Option<&ReplicaStatus>) -> &'static str {
    let wanted: BTreeSet<NodeId> = shard.voters().collect();
    let moving = match (&seen.report, local) {
        (Some(report), _) => report.settled == 0,
        (None, Some(local)) => local.voters != wanted,
        (None, None) => false,
    };
    let behind = |report: &LeadReport| report.behind.keys().any(|id| wanted.contains(id));
    if seen.stopped || local.is_some_and(|local| local.stopped.is_some()) {
        "stopped"
    } else if shard.pending {
        "splitting"
    } else if !seen.leader_is_reachable {
        "no_leader"
    } else if moving {
        "moving"
    } else if !seen.all_reachable {
        "short"
    } else if seen.report.as_ref().is_some_and(behind) {
        "catching_up"
    } else {
        "ok"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> MapShard {
        MapShard {
            shard: 1,
            replicas: vec![1, 2, 3],
            ..MapShard::default()
        }
    }

    fn seen(settled: u64, behind: &[NodeId]) -> Seen {
        Seen {
            leader_is_reachable: true,
            stopped: false,
            report: Some(LeadReport {
                term: 1,
                settled,
                behind: behind.iter().map(|id| (*id, 9_000)).collect(),
                voters: Vec::new(),
            }),
            all_reachable: true,
        }
    }

    #[test]
    fn a_shard_is_ok_only_when_all_its_replicas_are_there_and_near() {
        let health = |seen: Seen| health(&shard(), &seen, None);
        assert_eq!(health(seen(4, &[])), "ok");
        assert_eq!(health(seen(4, &[NodeId(2)])), "catching_up");
        assert_eq!(health(seen(0, &[NodeId(2)])), "moving");
        let short = Seen {
            all_reachable: false,
            ..seen(4, &[NodeId(2)])
        };
        assert_eq!(health(short), "short");
        let leaderless = Seen {
            leader_is_reachable: false,
            ..seen(4, &[])
        };
        assert_eq!(health(leaderless), "no_leader");
        let stopped = Seen {
            stopped: true,
            ..seen(4, &[])
        };
        assert_eq!(health(stopped), "stopped");
    }
}
