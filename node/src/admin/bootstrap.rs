//! How nodes with empty data directories become members: a cluster is made of them, or they are invited.

use std::collections::BTreeSet;
use std::sync::Arc;

use parlance_proto::admin::v1::{InitClusterRequest, NodeSpec};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::limits::{SHARD_COUNT_DEFAULT, SHARD_COUNT_MAX};
use parlance_proto::raft::v1::{InviteRequest, InviteResponse, peer_message::Body};
use parlance_proto::shard::META_GROUP;
use parlance_proto::store::v1::{
    ClusterMap, Identity, InitCluster, MapNode, MapShard, NodeState, meta_command,
};
use prost::Message;
use tokio::time::{Duration, sleep, timeout};

use super::propose;
use crate::config::is_host_and_port;
use crate::identity::FORMAT;
use crate::raft::{Directory, Lane, NodeId};
use crate::server::Shared;

/// Replicas of a shard, when there are as many nodes.
const REPLICAS: usize = 3;
/// How long an invited node may take to make its data directory.
const INVITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first elections may take.
const ELECTIONS_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a cluster of this node and the others named; answers its id when every shard has a leader.
pub(super) async fn init_cluster(
    shared: &Arc<Shared>,
    ask: InitClusterRequest,
) -> Result<String, Error> {
    let _one_at_a_time = shared.joining().lock().await;
    if let Some(member) = shared.member() {
        let message = format!(
            "this node is a member of cluster {} already",
            member.identity().cluster_id
        );
        return Err(Error::new(ErrorCode::PreconditionFailed, message));
    }
    let shard_count = check(shared.node_id(), &ask)?;
    let environment = shared.environment();
    let mut map = first_map(environment.random_id(), shard_count, &ask.nodes);
    shared.directory().suggest(&map);
    let own_store_id = environment.random_id();
    for place in 0..map.nodes.len() {
        let Some(node_id) = map.nodes.get(place).map(|node| node.node_id) else {
            continue;
        };
        let store_id = if node_id == shared.node_id() {
            own_store_id.clone()
        } else {
            invite(shared, node_id, &map).await?
        };
        if let Some(node) = map.nodes.get_mut(place) {
            node.store_id = store_id;
        }
    }
    let identity = Identity {
        cluster_id: map.cluster_id.clone(),
        node_id: shared.node_id(),
        store_id: own_store_id,
        format: FORMAT,
    };
    let internal = |e: crate::error::StartError| Error::new(ErrorCode::Internal, e.to_string());
    let member = shared.join(identity, &map).await.map_err(internal)?;
    member
        .meta_group()
        .initialize(map.meta_replicas.iter().copied().collect())
        .await
        .map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
    let cluster_id = map.cluster_id.clone();
    propose(
        &member,
        meta_command::Body::InitCluster(InitCluster { map: Some(map) }),
    )
    .await?;
    let elected = async {
        while !(0..shard_count).all(|s| {
            member
                .leaders()
                .of(parlance_proto::shard::shard_group(s))
                .is_some()
        }) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(ELECTIONS_TIMEOUT, elected).await.map_err(|_| {
        let message = format!(
            "cluster {cluster_id} is made, but some shards have no leader after {} s: see parlance cluster status",
            ELECTIONS_TIMEOUT.as_secs()
        );
        Error::new(ErrorCode::Unavailable, message)
    })?;
    tracing::info!(
        cluster = cluster_id,
        shards = shard_count,
        "the cluster is made"
    );
    Ok(cluster_id)
}

fn check(own: NodeId, ask: &InitClusterRequest) -> Result<u32, Error> {
    let shard_count = if ask.shard_count == 0 {
        SHARD_COUNT_DEFAULT
    } else {
        ask.shard_count
    };
    if shard_count > SHARD_COUNT_MAX {
        let message = format!("{shard_count} shards are not allowed: 1 to {SHARD_COUNT_MAX}");
        return Err(Error::invalid("shard_count", message));
    }
    let ids: BTreeSet<NodeId> = ask.nodes.iter().map(|node| node.node_id).collect();
    if ids.len() != ask.nodes.len() || ids.contains(&0) {
        return Err(Error::invalid(
            "nodes",
            "node ids must be above 0 and each named once",
        ));
    }
    if !ids.contains(&own) {
        let message = format!("node {own}, which was asked, is not among the nodes named");
        return Err(Error::invalid("nodes", message));
    }
    ask.nodes.iter().try_for_each(check_addresses)?;
    Ok(shard_count)
}

pub(super) fn check_addresses(node: &NodeSpec) -> Result<(), Error> {
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

/// Spreads replicas and preferred leaders evenly over the nodes.
fn first_map(cluster_id: String, shard_count: u32, specs: &[NodeSpec]) -> ClusterMap {
    let mut ids: Vec<NodeId> = specs.iter().map(|node| node.node_id).collect();
    ids.sort_unstable();
    let replicas = |first: usize| -> Vec<NodeId> {
        ids.iter()
            .cycle()
            .skip(first % ids.len().max(1))
            .take(REPLICAS.min(ids.len()))
            .copied()
            .collect()
    };
    let shards = (0..shard_count).map(|shard| {
        let replicas = replicas(shard as usize);
        MapShard {
            shard,
            founder: replicas.first().copied().unwrap_or(0),
            replicas,
        }
    });
    ClusterMap {
        cluster_id,
        version: 0,
        shard_count,
        nodes: specs.iter().map(map_node).collect(),
        shards: shards.collect(),
        meta_replicas: replicas(0),
    }
}

pub(super) fn map_node(spec: &NodeSpec) -> MapNode {
    MapNode {
        node_id: spec.node_id,
        raft_address: spec.raft_address.clone(),
        link_address: spec.link_address.clone(),
        store_id: String::new(),
        state: NodeState::Member.into(),
    }
}

/// Invites a node that waits with an empty data directory; answers its new store id.
pub(super) async fn invite(
    shared: &Shared,
    node_id: NodeId,
    map: &ClusterMap,
) -> Result<String, Error> {
    let request = InviteRequest {
        cluster_id: map.cluster_id.clone(),
        node_id,
        cluster_map: map.encode_to_vec().into(),
    };
    let unavailable = |why: String| {
        let address = shared.directory().address(node_id).unwrap_or_default();
        Error::new(
            ErrorCode::Unavailable,
            format!("node {node_id} at {address} (UDP) could not be invited: {why}"),
        )
    };
    // The invited node drops its connections when it becomes a member, and the answer with them; it then answers the
    // same invitation again.
    let answered = async {
        loop {
            let body = Body::Invite(request.clone());
            match shared
                .peers()
                .call(node_id, Lane::Control, META_GROUP, body, INVITE_TIMEOUT)
                .await
            {
                Err(crate::raft::PeerError::Unreachable { .. }) => {
                    sleep(Duration::from_millis(50)).await
                }
                answer => return answer,
            }
        }
    };
    let answer = timeout(INVITE_TIMEOUT, answered)
        .await
        .map_err(|_| unavailable("no answer".to_owned()))?;
    match answer {
        Ok(Body::InviteResponse(InviteResponse { store_id, error })) if error.is_empty() => {
            Ok(store_id)
        }
        Ok(Body::InviteResponse(response)) => {
            Err(Error::new(ErrorCode::PreconditionFailed, response.error))
        }
        Ok(_) => Err(unavailable("it answered something else".to_owned())),
        Err(e) => Err(unavailable(e.to_string())),
    }
}

/// This node's answer to an invitation: it makes its data directory, unless it has one.
pub async fn accept_invitation(shared: &Arc<Shared>, invitation: InviteRequest) -> InviteResponse {
    let _one_at_a_time = shared.joining().lock().await;
    match accept(shared, invitation).await {
        Ok(store_id) => InviteResponse {
            store_id,
            error: String::new(),
        },
        Err(error) => InviteResponse {
            store_id: String::new(),
            error,
        },
    }
}

async fn accept(shared: &Arc<Shared>, invitation: InviteRequest) -> Result<String, String> {
    if let Some(member) = shared.member() {
        // A repeated invitation gets the first answer.
        let identity = member.identity();
        if identity.cluster_id == invitation.cluster_id && identity.node_id == invitation.node_id {
            return Ok(identity.store_id.clone());
        }
        return Err(format!(
            "node {} is a member of cluster {} already",
            identity.node_id, identity.cluster_id
        ));
    }
    if invitation.node_id != shared.node_id() {
        return Err(format!(
            "this is node {}, not node {}",
            shared.node_id(),
            invitation.node_id
        ));
    }
    let map = ClusterMap::decode(invitation.cluster_map)
        .map_err(|e| format!("the cluster map is malformed: {e}"))?;
    let store_id = shared.environment().random_id();
    let identity = Identity {
        cluster_id: invitation.cluster_id,
        node_id: invitation.node_id,
        store_id: store_id.clone(),
        format: FORMAT,
    };
    shared
        .join(identity, &map)
        .await
        .map_err(|e| e.to_string())?;
    Ok(store_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(count: u64) -> Vec<NodeSpec> {
        let spec = |node_id| NodeSpec {
            node_id,
            raft_address: format!("127.0.0.1:{}", 1000 + node_id),
            link_address: format!("127.0.0.1:{}", 2000 + node_id),
        };
        (1..=count).map(spec).collect()
    }

    #[test]
    fn replicas_and_leaders_are_spread_evenly() {
        for (nodes, replicas) in [(1, 1), (2, 2), (3, 3), (5, 3)] {
            let map = first_map("c".into(), 60, &specs(nodes));
            for node in 1..=nodes {
                let leads = map
                    .shards
                    .iter()
                    .filter(|s| s.founder == node && s.replicas[0] == node)
                    .count();
                assert_eq!(leads as u64, 60 / nodes);
            }
            assert!(
                map.shards
                    .iter()
                    .all(|s| s.replicas.iter().collect::<BTreeSet<_>>().len() == replicas)
            );
        }
    }

    #[test]
    fn what_cannot_be_a_cluster_is_refused() {
        let ask = |nodes, shard_count| InitClusterRequest { nodes, shard_count };
        assert_eq!(check(1, &ask(specs(3), 0)).unwrap(), 64);
        assert!(check(1, &ask(specs(3), 5000)).is_err());
        assert!(
            check(4, &ask(specs(3), 64)).is_err(),
            "the node asked is not among them"
        );
        assert!(
            check(1, &ask([specs(1), specs(1)].concat(), 64)).is_err(),
            "twice the same id"
        );
        let mut bad = specs(1);
        bad[0].link_address = "nowhere".into();
        assert!(check(1, &ask(bad, 64)).is_err());
    }
}
