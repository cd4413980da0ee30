//! How nodes with empty data directories become members: a cluster is made of them, or they are invited.

use std::collections::BTreeSet;
use std::sync::Arc;

use parlance_proto::admin::v1::{InitClusterRequest, NodeSpec};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::limits::{SHARD_COUNT_DEFAULT, SHARD_COUNT_MAX};
use parlance_proto::raft::v1::{InviteRequest, InviteResponse, peer_message::Body};
use parlance_proto::shard::{META_GROUP, shard_group};
use parlance_proto::store::v1::{
    ClusterMap, Identity, InitCluster, MapNode, MapShard, NodeState, meta_command,
};
use prost::Message;
use tokio::time::{Duration, sleep, timeout};

use super::propose;
use crate::config::is_host_and_port;
use crate::identity::FORMAT;
use crate::member::Member;
use crate::raft::{Directory, Lane, NodeId};
use crate::server::Shared;
use crate::store::StoreError;

/// Replicas of a shard, when there are as many nodes.
const REPLICAS: usize = 3;
/// How long an invited node may take to make its data directory.
const INVITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first elections may take.
const ELECTIONS_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a cluster of this node and the others named; answers its id when every shard has a leader.
///
/// This node, the founder, becomes a member first, then it invites the others, and only then the meta group begins. So
/// an attempt that was cut off anywhere is taken up again by asking the founder once more. To ask for what is made
/// already is no error.
pub(super) async fn init_cluster(
    shared: &Arc<Shared>,
    ask: InitClusterRequest,
) -> Result<String, Error> {
    let _one_at_a_time = shared.joining().lock().await;
    let shard_count = check(shared.node_id(), &ask)?;
    let mut map = first_map(shared.node_id(), shard_count, &ask.nodes);
    let member = match shared.member() {
        Some(member) => member,
        None => found(shared, &mut map).await?,
    };
    let identity = member.identity();
    map.cluster_id.clone_from(&identity.cluster_id);
    if member.meta().borrow().map.is_none() {
        invite_all(shared, &member, &mut map).await?;
        let first = map.meta_replicas.iter().copied().collect();
        let begun = member.meta_group().initialize(first).await;
        begun.map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
        let body = meta_command::Body::InitCluster(InitCluster {
            map: Some(map.clone()),
        });
        match propose(&member, body).await {
            // By the attempt before this one, whose answer nobody got.
            Err(error) if error.code() == ErrorCode::Conflict => {}
            made => {
                made?;
            }
        }
    }
    check_made(&member, &map)?;
    elected(&member, shard_count).await?;
    tracing::info!(
        cluster = identity.cluster_id,
        shards = shard_count,
        "the cluster is made"
    );
    Ok(identity.cluster_id.clone())
}

/// Makes members of all nodes of the map, and writes their store ids into it.
async fn invite_all(
    shared: &Arc<Shared>,
    member: &Member,
    map: &mut ClusterMap,
) -> Result<(), Error> {
    shared.directory().suggest(map);
    let begun = check_unfinished(member, map)?;
    for place in 0..map.nodes.len() {
        let Some(node_id) = map.nodes.get(place).map(|node| node.node_id) else {
            continue;
        };
        let store_id = if node_id == shared.node_id() {
            member.identity().store_id.clone()
        } else {
            // Once the meta group has begun, all are members: one with an empty directory has lost its votes.
            ask(shared, invitation(map, node_id, begun)).await?
        };
        if store_id.is_empty() {
            let message = format!(
                "node {node_id} has lost its data directory while cluster {} was made: empty those of all its nodes, \
                 and begin again",
                map.cluster_id
            );
            return Err(Error::new(ErrorCode::PreconditionFailed, message));
        }
        if let Some(node) = map.nodes.get_mut(place) {
            node.store_id = store_id;
        }
    }
    Ok(())
}

/// Whether the cluster that is made is the one that was asked for.
fn check_made(member: &Member, asked: &ClusterMap) -> Result<(), Error> {
    let cluster_id = &member.identity().cluster_id;
    let state = member.meta().borrow().clone();
    let made = state.map.as_ref().ok_or_else(|| {
        let message = format!("cluster {cluster_id} is being made: ask again");
        Error::new(ErrorCode::Unavailable, message)
    })?;
    let places = |map: &ClusterMap| -> BTreeSet<(NodeId, String, String)> {
        let nodes = map.nodes.iter();
        let place = |n: &MapNode| (n.node_id, n.raft_address.clone(), n.link_address.clone());
        nodes.map(place).collect()
    };
    if made.shard_count == asked.shard_count && places(made) == places(asked) {
        return Ok(());
    }
    let nodes: Vec<NodeId> = made.nodes.iter().map(|node| node.node_id).collect();
    let message = format!(
        "this node is a member of cluster {cluster_id} already, which has the nodes {nodes:?} and {} shards",
        made.shard_count
    );
    Err(Error::new(ErrorCode::PreconditionFailed, message))
}

/// Makes this node the first member of a new cluster, if all others are there and in none.
async fn found(shared: &Arc<Shared>, map: &mut ClusterMap) -> Result<Arc<Member>, Error> {
    let environment = shared.environment();
    map.cluster_id = environment.random_id();
    shared.directory().suggest(map);
    for node in map.nodes.iter().filter(|n| n.node_id != shared.node_id()) {
        ask(shared, invitation(map, node.node_id, true)).await?;
    }
    let identity = Identity {
        cluster_id: map.cluster_id.clone(),
        node_id: shared.node_id(),
        store_id: environment.random_id(),
        format: FORMAT,
    };
    shared
        .join(identity, map)
        .await
        .map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))
}

/// A member without a map makes a cluster only to take up what it began itself. Answers whether the meta group has begun.
fn check_unfinished(member: &Member, map: &ClusterMap) -> Result<bool, Error> {
    let cluster_id = &member.identity().cluster_id;
    let refuse = |message: String| Err(Error::new(ErrorCode::PreconditionFailed, message));
    let founder = founder(member).map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
    if founder != member.node_id() {
        return refuse(format!(
            "this node was invited to cluster {cluster_id} and does not have its map yet: ask node {founder}"
        ));
    }
    let begun = member.meta_group().status().voters;
    let asked: BTreeSet<NodeId> = map.meta_replicas.iter().copied().collect();
    if !begun.is_empty() && begun != asked {
        return refuse(format!(
            "cluster {cluster_id} was begun with the nodes {begun:?} as its first: name the same nodes"
        ));
    }
    Ok(!begun.is_empty())
}

/// By this node's invitation: the first of the meta group, who began the cluster if it is not made yet.
fn founder(member: &Member) -> Result<NodeId, StoreError> {
    let invitation = member.invitation()?;
    Ok(invitation.meta_replicas.first().copied().unwrap_or(0))
}

async fn elected(member: &Member, shard_count: u32) -> Result<(), Error> {
    let elected = async {
        let leader = |shard| member.leaders().of(shard_group(shard));
        while !(0..shard_count).all(|shard| leader(shard).is_some()) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(ELECTIONS_TIMEOUT, elected).await.map_err(|_| {
        let message = format!(
            "cluster {} is made, but some shards have no leader after {} s: see parlance cluster status",
            member.identity().cluster_id,
            ELECTIONS_TIMEOUT.as_secs()
        );
        Error::new(ErrorCode::Unavailable, message)
    })
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

/// Spreads replicas and preferred leaders evenly over the nodes. The founder is the first of the meta group's.
fn first_map(founder: NodeId, shard_count: u32, specs: &[NodeSpec]) -> ClusterMap {
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
    let place = ids.iter().position(|id| *id == founder).unwrap_or(0);
    ClusterMap {
        cluster_id: String::new(),
        version: 0,
        shard_count,
        nodes: specs.iter().map(map_node).collect(),
        shards: shards.collect(),
        meta_replicas: replicas(place),
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
    ask(shared, invitation(map, node_id, false)).await
}

fn invitation(map: &ClusterMap, node_id: NodeId, ask_only: bool) -> InviteRequest {
    InviteRequest {
        cluster_id: map.cluster_id.clone(),
        node_id,
        cluster_map: map.encode_to_vec().into(),
        ask_only,
    }
}

async fn ask(shared: &Shared, request: InviteRequest) -> Result<String, Error> {
    let node_id = request.node_id;
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
        let (node, cluster) = (identity.node_id, &identity.cluster_id);
        if member.meta().borrow().map.is_some() {
            return Err(format!(
                "node {node} is a member of cluster {cluster} already"
            ));
        }
        let founder = founder(&member).map_err(|e| e.to_string())?;
        return Err(format!(
            "node {node} is a member of cluster {cluster}, and does not have its map yet: ask node {founder}"
        ));
    }
    if invitation.node_id != shared.node_id() {
        return Err(format!(
            "this is node {}, not node {}",
            shared.node_id(),
            invitation.node_id
        ));
    }
    if invitation.ask_only {
        return Ok(String::new());
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
            let map = first_map(1, 60, &specs(nodes));
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
    fn the_founder_is_in_the_meta_group() {
        for founder in 1..=5 {
            let map = first_map(founder, 60, &specs(5));
            assert_eq!(map.meta_replicas.first(), Some(&founder));
            assert_eq!(map.meta_replicas.len(), 3);
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
