//! `parlance cluster init`: running nodes with empty data directories become a cluster.

use std::collections::BTreeSet;

use parlance_proto::admin::v1::{InitClusterRequest, NodeSpec};
use serde::Serialize;

use super::fetch;
use crate::admin::Admin;
use crate::args::NodeSpecArg;
use crate::commands::Session;
use crate::context::ClusterContext;
use crate::exit::not_possible;
use crate::output::say;

#[derive(Serialize)]
struct Made {
    cluster_id: String,
    shard_count: u32,
    nodes: Vec<u64>,
}

pub(super) async fn run(
    session: &Session,
    nodes: Vec<NodeSpecArg>,
    shards: Option<u32>,
) -> anyhow::Result<()> {
    let ids: BTreeSet<u64> = nodes.iter().map(|n| n.node_id).collect();
    if ids.len() != nodes.len() {
        return Err(not_possible(
            "two of the nodes have one id: each needs its own",
        ));
    }
    let mut context = context_of(session)?;
    if context.nodes.is_empty() {
        context.nodes = nodes.iter().map(|n| n.link_address.clone()).collect();
    }
    let mut admin = Admin::connect(&context).await?;
    let specs = nodes.iter().map(NodeSpecArg::to_spec).collect();
    let cluster_id = init(&mut admin, specs, shards.unwrap_or(0)).await?;
    let shard_count = fetch(&mut admin).await?.shard_count;
    let made = Made {
        cluster_id,
        shard_count,
        nodes: ids.into_iter().collect(),
    };
    say(format!(
        "made a cluster of {} nodes with {} shards; see it with `parlance cluster status`",
        made.nodes.len(),
        made.shard_count
    ));
    session
        .output
        .print(&made, |_, made| made.cluster_id.clone())
}

/// A cluster that does not exist yet needs no context: its nodes are named, and --tls-dir may say the rest.
fn context_of(session: &Session) -> anyhow::Result<ClusterContext> {
    if session.globals.context.is_none()
        && let Some(dir) = &session.globals.tls_dir
    {
        let nodes = session.globals.server.clone();
        return Ok(ClusterContext {
            nodes,
            tls: Some(crate::ca::operator_files(dir)?),
            ..Default::default()
        });
    }
    Ok(session.resolve()?.context)
}

/// Makes the cluster and returns its id. 0 shards: as many as nodes and cores suggest.
pub async fn init(
    admin: &mut Admin,
    nodes: Vec<NodeSpec>,
    shard_count: u32,
) -> anyhow::Result<String> {
    let request = InitClusterRequest { nodes, shard_count };
    let answer = admin
        .api
        .init_cluster(request)
        .await
        .map_err(|status| admin.failed("make the cluster", &status))?;
    Ok(answer.into_inner().cluster_id)
}
