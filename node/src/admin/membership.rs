//! Replacing a lost node by a new one, and draining.

use std::sync::Arc;

use parlance_proto::admin::v1::{DrainNodeRequest, ReplaceNodeRequest};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::store::v1::{AddNode, NodeState, ReplaceNode, meta_command};
use tokio::time::Duration;

use super::bootstrap::{check_addresses, invite, map_node};
use super::propose;
use crate::member::Member;
use crate::server::Shared;

/// How long a drain may take when the operator does not say.
const DRAIN_TIMEOUT_MS: u32 = 10_000;

/// Invites the new node and gives it the old one's place in every group; the leaders of the groups do the rest.
/// Asked again after a failure half-way, it goes on where it stopped.
pub(super) async fn replace(
    shared: &Arc<Shared>,
    member: &Arc<Member>,
    ask: ReplaceNodeRequest,
) -> Result<u64, Error> {
    let spec = ask
        .new_node
        .ok_or_else(|| Error::invalid("new_node", "the new node must be named"))?;
    check_addresses(&spec)?;
    let state = member.meta().borrow().clone();
    let map = state
        .map
        .as_ref()
        .ok_or_else(|| Error::new(ErrorCode::Unavailable, "there is no cluster map yet"))?;
    let is_member = |id| {
        state
            .node(id)
            .is_some_and(|node| node.state() == NodeState::Member)
    };
    if !is_member(ask.old_node_id) {
        return Err(Error::new(
            ErrorCode::NotFound,
            format!("node {} is not a member", ask.old_node_id),
        ));
    }
    if spec.node_id == 0 || spec.node_id == ask.old_node_id {
        let message = format!(
            "node id {} is not allowed: a new member needs a new id above 0",
            spec.node_id
        );
        return Err(Error::invalid("new_node.node_id", message));
    }
    if !is_member(spec.node_id) {
        let mut with_new = map.clone();
        with_new.nodes.push(map_node(&spec));
        shared.directory().suggest(&with_new);
        let store_id = invite(shared, spec.node_id, &with_new).await?;
        let node = parlance_proto::store::v1::MapNode {
            store_id,
            ..map_node(&spec)
        };
        propose(
            member,
            meta_command::Body::AddNode(AddNode { node: Some(node) }),
        )
        .await?;
    }
    let replace = ReplaceNode {
        old_node_id: ask.old_node_id,
        new_node_id: spec.node_id,
    };
    propose(member, meta_command::Body::ReplaceNode(replace)).await
}

/// Hands over what this node leads; answers how many leaderships are left.
pub(super) async fn drain(member: &Member, ask: DrainNodeRequest) -> u32 {
    let within = if ask.timeout_ms == 0 {
        DRAIN_TIMEOUT_MS
    } else {
        ask.timeout_ms
    };
    let left = member.hand_over(Duration::from_millis(within.into())).await;
    u32::try_from(left).unwrap_or(u32::MAX)
}
