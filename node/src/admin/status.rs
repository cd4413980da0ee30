//! The cluster as one node sees it.

use std::collections::BTreeSet;

use parlance_proto::admin::v1::{GetClusterStatusResponse, NodeStatus, ShardStatus};
use parlance_proto::shard::{META_GROUP, shard_group};
use parlance_proto::store::v1::{MapShard, NodeState};

use crate::member::Member;
use crate::raft::NodeId;

/// What this node knows of nodes and shards.
pub(super) fn cluster_status(member: &Member) -> GetClusterStatusResponse {
    let state = member.meta().borrow().clone();
    let leaders = member.leaders();
    let reachable = |id: NodeId| id == member.node_id() || leaders.is_heard(id);
    let map = state.map.clone().unwrap_or_default();
    let leads = |id: NodeId| {
        map.shards
            .iter()
            .filter(|s| leaders.of(shard_group(s.shard)) == Some(id))
            .count()
    };
    let replicas = |id: NodeId| {
        map.shards
            .iter()
            .filter(|s| s.replicas.contains(&id))
            .count()
    };
    let nodes = map.nodes.iter().map(|node| NodeStatus {
        node_id: node.node_id,
        raft_address: node.raft_address.clone(),
        link_address: node.link_address.clone(),
        state: if node.state() == NodeState::Member {
            "member"
        } else {
            "removed"
        }
        .to_owned(),
        reachable: node.state() == NodeState::Member && reachable(node.node_id),
        leads: leads(node.node_id) as u32,
        replicas: replicas(node.node_id) as u32,
    });
    GetClusterStatusResponse {
        cluster_id: member.identity().cluster_id.clone(),
        map_version: map.version,
        shard_count: map.shard_count,
        nodes: nodes.collect(),
        shards: map
            .shards
            .iter()
            .map(|shard| shard_status(member, shard, &reachable))
            .collect(),
        meta_leader: leaders.of(META_GROUP).unwrap_or(0),
        answering_node_id: member.node_id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn shard_status(
    member: &Member,
    shard: &MapShard,
    reachable: &dyn Fn(NodeId) -> bool,
) -> ShardStatus {
    let local = member
        .shards()
        .get(shard.shard)
        .map(|replica| replica.raft().status());
    let leader = member.leaders().of(shard_group(shard.shard));
    let wanted: BTreeSet<NodeId> = shard.replicas.iter().copied().collect();
    let health = if leader.is_none_or(|leader| !reachable(leader)) {
        "no_leader"
    } else if local.as_ref().is_some_and(|status| status.voters != wanted) {
        "moving"
    } else if !wanted.iter().all(|id| reachable(*id)) {
        "short"
    } else {
        "ok"
    };
    let local = local.unwrap_or_default();
    ShardStatus {
        shard: shard.shard,
        leader: leader.unwrap_or(0),
        term: local.term,
        wanted: shard.replicas.clone(),
        voters: local.voters.into_iter().collect(),
        learners: local.learners.into_iter().collect(),
        applied: local.applied,
        health: health.to_owned(),
    }
}
