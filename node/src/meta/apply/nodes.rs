//! Nodes come in, and take the place of others.

use parlance_proto::store::v1::{
    ClusterMap, MapNode, NodeState, ReplaceNode, meta_refusal::Reason,
};

use super::{Change, refusal};

pub(super) fn add(map: &mut ClusterMap, node: MapNode) -> Change {
    if map.nodes.iter().any(|n| n.node_id == node.node_id) {
        let message = format!(
            "node id {} is or was a member: a new member needs a new id",
            node.node_id
        );
        return Err(refusal(Reason::Exists, message));
    }
    map.nodes.push(node);
    Ok(true)
}

pub(super) fn replace(map: &mut ClusterMap, replace: &ReplaceNode) -> Change {
    let (old, new) = (replace.old_node_id, replace.new_node_id);
    let mut nodes = map.nodes.iter();
    if nodes.any(|n| n.node_id == old && n.replaced_by == new) {
        return Ok(false);
    }
    if replace.map_version != map.version {
        let message = "the cluster map has changed since the shards were looked at: try again";
        return Err(refusal(Reason::Forbidden, message));
    }
    let member = |id| {
        map.nodes
            .iter()
            .any(|n| n.node_id == id && n.state() == NodeState::Member)
    };
    if let Some(stranger) = [old, new].into_iter().find(|id| !member(*id)) {
        let message = format!("node {stranger} is not a member");
        return Err(refusal(Reason::NotFound, message));
    }
    let lists = map
        .shards
        .iter_mut()
        .map(|s| &mut s.replicas)
        .chain([&mut map.meta_replicas]);
    for replicas in lists {
        if replicas.contains(&new) {
            replicas.retain(|id| *id != old);
        } else {
            replicas
                .iter_mut()
                .filter(|id| **id == old)
                .for_each(|id| *id = new);
        }
    }
    for shard in map.shards.iter_mut().filter(|shard| shard.founder == old) {
        shard.founder = 0;
    }
    for node in map.nodes.iter_mut().filter(|n| n.node_id == old) {
        node.set_state(NodeState::Removed);
        node.replaced_by = new;
    }
    Ok(true)
}
