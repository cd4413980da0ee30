//! Replacing a lost node by a new one, and draining.

use parlance_proto::admin::v1::{DrainNodeRequest, NodeSpec, ReplaceNodeRequest};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::store::v1::{AddNode, MapNode, ReplaceNode, meta_command};
use tokio::time::Duration;

use crate::cluster::{ClusterView, NodeContext, Runtime, check_addresses, invite, map_node};
use crate::meta::MetaState;

/// How long a drain may take when the operator does not say.
const DRAIN_TIMEOUT_MS: u32 = 10_000;

/// Invites the new node and gives it the old one's place in every shard; the leaders of the shards do the rest, and the
/// old node serves until they have. Asked again after a failure half-way, it resumes.
pub(super) async fn replace(
    context: &NodeContext,
    runtime: &Runtime,
    ask: ReplaceNodeRequest,
) -> Result<u64, Error> {
    let spec = ask
        .new_node
        .ok_or_else(|| Error::invalid("new_node", "the new node must be named"))?;
    check_addresses(&spec)?;
    let (old, new) = (NodeId(ask.old_node_id), NodeId(spec.node_id));
    let state = runtime.view().state();
    if state.is_replaced(old, new) {
        return Ok(state.version());
    }
    check_nodes(&state, old, new)?;
    check_live(runtime.view(), &state, old)?;
    if !state.is_member(new) {
        add(context, runtime, &state, &spec).await?;
    }
    let replace = ReplaceNode {
        old_node_id: ask.old_node_id,
        new_node_id: spec.node_id,
    };
    let body = meta_command::Body::ReplaceNode(replace);
    runtime.meta_client().propose(body).await
}

fn check_nodes(state: &MetaState, old: NodeId, new: NodeId) -> Result<(), Error> {
    if state.map().is_none() {
        let message = "there is no cluster map yet";
        return Err(Error::new(ErrorCode::Unavailable, message));
    }
    if !state.is_member(old) {
        let message = format!("node {old} is not a member");
        return Err(Error::new(ErrorCode::NotFound, message));
    }
    if new.0 == 0 || new == old {
        let message = format!("node id {new} is not allowed: a new member needs a new id above 0");
        return Err(Error::invalid("new_node.node_id", message));
    }
    Ok(())
}

/// One move at a time, and none that leaves a shard without a live majority.
fn check_live(view: &ClusterView, state: &MetaState, old: NodeId) -> Result<(), Error> {
    let shards = state.shards().iter();
    let shards = shards.map(|shard| (shard.id(), shard.voters().collect::<Vec<_>>()));
    let meta = state.map().map(|map| {
        let replicas = map.meta_replicas.iter();
        (ShardId::META, replicas.copied().map(NodeId).collect())
    });
    for (shard, replicas) in shards.chain(meta) {
        let settled = view.heard.report(shard).map_or(0, |report| report.settled);
        if let Err(reason) = may_leave(&replicas, old, settled > 0, |id| view.is_reachable(id)) {
            let message = format!("shard {shard} {reason}: see parlance cluster status");
            return Err(Error::new(ErrorCode::PreconditionFailed, message));
        }
    }
    Ok(())
}

/// Whether a shard with these replicas may lose `old`. Its last replicas may move while they answer: there is no majority
/// without them.
fn may_leave(
    replicas: &[NodeId],
    old: NodeId,
    settled: bool,
    is_reachable: impl Fn(NodeId) -> bool,
) -> Result<(), &'static str> {
    if !settled {
        return Err("is still moving replicas, or has no leader that is known");
    }
    if !replicas.contains(&old) {
        return Ok(());
    }
    let majority = replicas.len() / 2 + 1;
    let others = replicas.iter().filter(|id| **id != old);
    let live = others.filter(|id| is_reachable(**id)).count();
    let is_small = replicas.len() < 3;
    if live >= majority || (is_small && live + 1 == replicas.len() && is_reachable(old)) {
        return Ok(());
    }
    Err("would be left without a majority that answers")
}

async fn add(
    context: &NodeContext,
    runtime: &Runtime,
    state: &MetaState,
    spec: &NodeSpec,
) -> Result<(), Error> {
    let mut with_new = state.map().cloned().unwrap_or_default();
    with_new.nodes.push(map_node(spec));
    context.directory().suggest(&with_new);
    let store_id = invite(context, NodeId(spec.node_id), &with_new).await?;
    let node = MapNode {
        store_id,
        ..map_node(spec)
    };
    let add = AddNode { node: Some(node) };
    let body = meta_command::Body::AddNode(add);
    runtime.meta_client().propose(body).await.map(|_| ())
}

/// Hands over what this node leads; answers how many leaderships are left.
pub(super) async fn drain(runtime: &Runtime, ask: &DrainNodeRequest) -> u32 {
    let within = if ask.timeout_ms == 0 {
        DRAIN_TIMEOUT_MS
    } else {
        ask.timeout_ms
    };
    let left = runtime
        .hand_over(Duration::from_millis(within.into()))
        .await;
    u32::try_from(left).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);
    const THREE: NodeId = NodeId(3);

    fn reachable(nodes: &[NodeId]) -> impl Fn(NodeId) -> bool {
        move |id| nodes.contains(&id)
    }

    #[test]
    fn a_node_leaves_only_shards_that_have_a_live_majority_without_it() {
        let three = [ONE, TWO, THREE];
        assert!(may_leave(&three, ONE, true, reachable(&[TWO, THREE])).is_ok());
        assert!(may_leave(&three, ONE, true, reachable(&[ONE, TWO])).is_err());
        assert!(may_leave(&three, ONE, false, reachable(&three)).is_err());
        assert!(may_leave(&three, NodeId(4), true, reachable(&[])).is_ok());
    }

    #[test]
    fn the_last_replicas_may_move_while_they_answer() {
        assert!(may_leave(&[ONE], ONE, true, reachable(&[ONE])).is_ok());
        assert!(may_leave(&[ONE], ONE, true, reachable(&[])).is_err());
        assert!(may_leave(&[ONE, TWO], ONE, true, reachable(&[ONE, TWO])).is_ok());
        assert!(may_leave(&[ONE, TWO], ONE, true, reachable(&[TWO])).is_err());
    }
}
