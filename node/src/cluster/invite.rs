//! Asks nodes with empty data directories to become members.

use parlance_proto::admin::v1::NodeSpec;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{InviteRequest, InviteResponse};
use parlance_proto::store::v1::{ClusterMap, MapNode, NodeState};
use prost::Message;
use tokio::time::{Duration, sleep, timeout};

use super::context::NodeContext;
use super::levels::speaks;
use super::runtime::Runtime;
use crate::config::is_host_and_port;
use crate::raft::{self, Directory, Lane, PeerError};
use crate::store::StoreError;

/// How long an invited node may take to make its data directory.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between tries while a node cannot be reached.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Refuses addresses that nobody can dial.
///
/// # Errors
/// Names the address.
pub fn check_addresses(node: &NodeSpec) -> Result<(), Error> {
    for address in [&node.raft_address, &node.link_address] {
        if !is_host_and_port(address) {
            let message = format!(
                "address {address:?} of node {} is not host:port",
                node.node_id
            );
            return Err(Error::invalid("nodes", message));
        }
    }
    Ok(())
}

/// A member of the map whose data directory is not known yet.
pub fn map_node(spec: &NodeSpec) -> MapNode {
    MapNode {
        node_id: spec.node_id,
        raft_address: spec.raft_address.clone(),
        link_address: spec.link_address.clone(),
        store_id: String::new(),
        state: NodeState::Member.into(),
        replaced_by: 0,
    }
}

/// Invites a node that waits with an empty data directory; answers its new store id.
///
/// # Errors
/// The node cannot be reached, refuses, or cannot speak the cluster's feature level.
pub async fn invite(
    context: &NodeContext,
    node_id: NodeId,
    map: &ClusterMap,
) -> Result<String, Error> {
    // Asked first: it must not have a data directory for a cluster that it cannot be in.
    let could = ask(context, invitation(map, node_id, true)).await?;
    if !speaks(could.levels, map.feature_level) {
        let message = format!(
            "node {node_id} cannot speak feature level {} of the cluster: start the version there that the others run",
            map.feature_level
        );
        return Err(Error::new(ErrorCode::PreconditionFailed, message));
    }
    Ok(ask(context, invitation(map, node_id, false))
        .await?
        .store_id)
}

pub(super) fn invitation(map: &ClusterMap, node_id: NodeId, ask_only: bool) -> InviteRequest {
    InviteRequest {
        cluster_id: map.cluster_id.clone(),
        node_id: node_id.0,
        cluster_map: map.encode_to_vec().into(),
        ask_only,
    }
}

/// Sends an invitation and waits for what the node says.
pub(super) async fn ask(
    context: &NodeContext,
    request: InviteRequest,
) -> Result<InviteResponse, Error> {
    let node_id = NodeId(request.node_id);
    let unavailable = |why: String| {
        let address = context.directory.address(node_id).unwrap_or_default();
        Error::new(
            ErrorCode::Unavailable,
            format!("node {node_id} at {address} (UDP) could not be invited: {why}"),
        )
    };
    // The invited node drops its connections when it becomes a member, and the answer with them; it then answers the
    // same invitation again.
    let answered = async {
        loop {
            let (peers, lane) = (&*context.peers, Lane::Control);
            let call = raft::ask(
                peers,
                node_id,
                lane,
                ShardId::META,
                request.clone(),
                TIMEOUT,
            );
            match call.await {
                Err(PeerError::Unreachable { .. }) => sleep(RETRY_DELAY).await,
                answer => return answer,
            }
        }
    };
    let answer = timeout(TIMEOUT, answered)
        .await
        .map_err(|_| unavailable("no answer".to_owned()))?;
    match answer {
        Ok(response) if response.error.is_empty() => Ok(response),
        Ok(response) => Err(Error::new(ErrorCode::PreconditionFailed, response.error)),
        Err(e) => Err(unavailable(e.to_string())),
    }
}

/// By this node's invitation: the first of the meta shard, who began the cluster if it is not made yet.
pub(super) fn founder(runtime: &Runtime) -> Result<NodeId, StoreError> {
    let invitation = runtime.invitation()?;
    Ok(NodeId(
        invitation.meta_replicas.first().copied().unwrap_or(0),
    ))
}
