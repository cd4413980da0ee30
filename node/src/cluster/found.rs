//! Makes a cluster of nodes with empty data directories.
//!
//! The node that is asked, the founder, becomes a member first, then it invites the others, and only then the meta shard
//! begins. So an attempt that was cut off anywhere is taken up again by asking the founder once more.

use std::collections::BTreeSet;
use std::sync::Arc;

use parlance_proto::admin::v1::{InitClusterRequest, NodeSpec};
use parlance_proto::common::v1::{Error, ErrorCode, VersionRange};
use parlance_proto::ids::NodeId;
use parlance_proto::store::v1::{
    ClusterMap, Identity, InitCluster, MapNode, MapShard, meta_command,
};
use parlance_proto::version::greeting;
use tokio::time::{Duration, sleep, timeout};

use super::context::NodeContext;
use super::identity::FORMAT;
use super::invite::{ask, founder, invitation};
use super::join::join;
use super::levels::{common_level, levels};
use super::plan;
use super::runtime::Runtime;

/// How long the first elections may take.
const ELECTIONS_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a cluster of this node and the others named; answers its id when every shard has a leader. A cluster that is
/// there as it is asked for is answered, too.
///
/// # Errors
/// What cannot be a cluster, nodes that cannot be reached or are in another, elections that take too long.
pub async fn init_cluster(
    context: &Arc<NodeContext>,
    ask: InitClusterRequest,
) -> Result<String, Error> {
    let _one_at_a_time = context.joining.lock().await;
    plan::check(context.node_id(), &ask)?;
    let mut map = plan::nodes(context.node_id(), &ask.nodes);
    map.lease_ms = context.config.raft.lease_ms;
    let runtime = match context.runtime() {
        Some(runtime) => runtime,
        None => found(context, &mut map).await?,
    };
    let cluster_id = runtime.identity().cluster_id.clone();
    map.cluster_id.clone_from(&cluster_id);
    if runtime.view().state().map().is_none() {
        begin(context, &runtime, map, &ask).await?;
    }
    check_made(&runtime, &ask)?;
    elected(&runtime).await?;
    let shards = runtime.view().state().routes().len();
    tracing::info!(cluster = cluster_id, shards, "the cluster is made");
    Ok(cluster_id)
}

/// Makes this node the first member of a new cluster, if all others are there and in none.
async fn found(context: &Arc<NodeContext>, map: &mut ClusterMap) -> Result<Arc<Runtime>, Error> {
    map.cluster_id = context.environment.random_id();
    context.directory.suggest(map);
    for node in others(context, map) {
        ask(context, invitation(map, node, true)).await?;
    }
    let identity = Identity {
        cluster_id: map.cluster_id.clone(),
        node_id: context.node_id().0,
        store_id: context.environment.random_id(),
        format: FORMAT,
    };
    let joined = join(context, identity, map).await;
    joined.map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))
}

fn others(context: &NodeContext, map: &ClusterMap) -> Vec<NodeId> {
    let ids = map.nodes.iter().map(MapNode::id);
    ids.filter(|id| *id != context.node_id()).collect()
}

/// Invites the others, and begins the meta shard with the map.
async fn begin(
    context: &Arc<NodeContext>,
    runtime: &Arc<Runtime>,
    mut map: ClusterMap,
    ask: &InitClusterRequest,
) -> Result<(), Error> {
    let able = invite_all(context, runtime, &mut map).await?;
    map.feature_level = able.level;
    let count = match ask.shard_count {
        0 => plan::default_shard_count(able.cores),
        given => given,
    };
    map.shards = plan::shards(count, &ask.nodes);
    let first = map.meta_replicas.iter().copied().map(NodeId).collect();
    let begun = runtime.view().meta_shard.initialize(first).await;
    begun.map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
    let init = InitCluster { map: Some(map) };
    let body = meta_command::Body::InitCluster(init);
    match runtime.meta_client().propose(body).await {
        // By the attempt before this one, whose answer nobody got.
        Err(error) if error.code() == ErrorCode::Conflict => Ok(()),
        made => made.map(|_| ()),
    }
}

/// What the nodes of a new cluster can do together.
struct Able {
    level: u32,
    cores: Vec<u32>,
}

/// Makes members of all nodes of the map, and writes their store ids into it.
async fn invite_all(
    context: &Arc<NodeContext>,
    runtime: &Runtime,
    map: &mut ClusterMap,
) -> Result<Able, Error> {
    context.directory.suggest(map);
    let begun = check_unfinished(runtime, map)?;
    let own_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut cores = vec![u32::try_from(own_cores).unwrap_or(u32::MAX)];
    let mut ranges: Vec<VersionRange> = greeting(levels()).into_iter().collect();
    let mut store_ids = vec![(context.node_id(), runtime.identity().store_id.clone())];
    // All are asked before any is made a member, so that one that does not fit leaves nothing behind.
    for node_id in others(context, map) {
        let could = ask(context, invitation(map, node_id, true)).await?;
        cores.push(could.cores);
        ranges.extend(could.levels);
    }
    let level = common_level(ranges).ok_or_else(|| {
        let message = "the nodes have no feature level in common: start the same version on all";
        Error::new(ErrorCode::PreconditionFailed, message)
    })?;
    map.feature_level = level;
    for node_id in others(context, map) {
        // Once the meta shard has begun, all are members: one with an empty directory has lost its votes.
        let answer = ask(context, invitation(map, node_id, begun)).await?;
        if answer.store_id.is_empty() {
            let message = format!(
                "node {node_id} has lost its data directory while cluster {} was made: empty those of all its nodes, \
                 and begin again",
                map.cluster_id
            );
            return Err(Error::new(ErrorCode::PreconditionFailed, message));
        }
        store_ids.push((node_id, answer.store_id));
    }
    for node in &mut map.nodes {
        let known = store_ids.iter().find(|(id, _)| *id == node.id());
        node.store_id = known.map(|(_, id)| id.clone()).unwrap_or_default();
    }
    Ok(Able { level, cores })
}

/// A member without a map makes a cluster only to take up what it began itself. Answers whether the meta shard has begun.
fn check_unfinished(runtime: &Runtime, map: &ClusterMap) -> Result<bool, Error> {
    let cluster_id = &runtime.identity().cluster_id;
    let refuse = |message: String| Err(Error::new(ErrorCode::PreconditionFailed, message));
    let founder = founder(runtime).map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
    if founder.0 != runtime.identity().node_id {
        return refuse(format!(
            "this node was invited to cluster {cluster_id} and does not have its map yet: ask node {founder}"
        ));
    }
    let begun = runtime.view().meta_shard.status().voters;
    let asked: BTreeSet<NodeId> = map.meta_replicas.iter().copied().map(NodeId).collect();
    if !begun.is_empty() && begun != asked {
        return refuse(format!(
            "cluster {cluster_id} was begun with the nodes {begun:?} as its first: name the same nodes"
        ));
    }
    Ok(!begun.is_empty())
}

/// Whether the cluster that is made is the one that was asked for.
fn check_made(runtime: &Runtime, ask: &InitClusterRequest) -> Result<(), Error> {
    let cluster_id = &runtime.identity().cluster_id;
    let state = runtime.view().state();
    let made = state.map().ok_or_else(|| {
        let message = format!("cluster {cluster_id} is being made: ask again");
        Error::new(ErrorCode::Unavailable, message)
    })?;
    let made_of: BTreeSet<_> = made.nodes.iter().map(place_of_node).collect();
    let asked: BTreeSet<_> = ask.nodes.iter().map(place_of_spec).collect();
    let shards = state.shards().iter().filter(|s| s.parent == 0).count();
    let same_count = ask.shard_count == 0 || ask.shard_count as usize == shards;
    if same_count && made_of == asked {
        return Ok(());
    }
    let nodes: Vec<NodeId> = made.nodes.iter().map(MapNode::id).collect();
    let message = format!(
        "this node is a member of cluster {cluster_id} already, which was made of the nodes {nodes:?} and {shards} shards"
    );
    Err(Error::new(ErrorCode::PreconditionFailed, message))
}

fn place_of_node(node: &MapNode) -> (u64, &str, &str) {
    (node.node_id, &node.raft_address, &node.link_address)
}

fn place_of_spec(node: &NodeSpec) -> (u64, &str, &str) {
    (node.node_id, &node.raft_address, &node.link_address)
}

async fn elected(runtime: &Runtime) -> Result<(), Error> {
    let view = runtime.view();
    let elected = async {
        let leaderless = |shard: &MapShard| view.leaders.of(shard.id()).is_none();
        while view.state().shards().iter().any(leaderless) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(ELECTIONS_TIMEOUT, elected).await.map_err(|_| {
        let message = format!(
            "cluster {} is made, but some shards have no leader after {} s: see parlance cluster status",
            runtime.identity().cluster_id,
            ELECTIONS_TIMEOUT.as_secs()
        );
        Error::new(ErrorCode::Unavailable, message)
    })
}
