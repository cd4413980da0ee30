//! The nodes of a dev cluster, and the cluster that they make at the first run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::future::{join_all, select_all, try_join_all};
use parlance_node::{Config, Node};
use parlance_proto::admin::v1::{GetClusterStatusRequest, NodeSpec};
use parlance_proto::tls::{Role, TlsFiles};
use serde_json::json;

use super::state::{DevNode, DevState};
use crate::admin::Admin;
use crate::ca::Authority;
use crate::commands::cluster::init;
use crate::ops::Probes;
use crate::serve::process;

/// A dev certificate outlives the patience of whoever would have to renew it.
const VALID: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Replay of a long log and the first elections are within this on a slow machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// All nodes of this process.
pub(super) struct Nodes(Vec<Arc<Node>>);

impl Nodes {
    /// Starts all at once: those of an existing cluster wait for each other.
    pub(super) async fn start(
        dir: &Path,
        authority: &Authority,
        state: &DevState,
    ) -> anyhow::Result<Self> {
        let start = async |node: &DevNode| {
            let tls = certificate(authority, &Role::Node(node.node_id))?;
            let others = state
                .nodes
                .iter()
                .filter(|other| other.node_id != node.node_id);
            let seeds: Vec<_> = others.map(|other| other.link_address).collect();
            let config: Config = serde_json::from_value(json!({
                "node_id": node.node_id,
                "data_dir": dir.join(format!("node-{}", node.node_id)),
                "raft_listen": node.raft_address,
                "link_listen": node.link_address,
                "seeds": seeds,
                "tls": tls,
            }))
            .context("make the node's settings")?;
            let started = Node::start(config)
                .await
                .with_context(|| format!("start node {}", node.node_id))?;
            anyhow::Ok(Arc::new(started))
        };
        Ok(Self(try_join_all(state.nodes.iter().map(start)).await?))
    }

    /// Makes the cluster if this is the first run, and waits until all nodes serve. Returns the cluster's id.
    pub(super) async fn form_cluster(
        &self,
        state: &DevState,
        tls: &TlsFiles,
    ) -> anyhow::Result<(String, Admin)> {
        let mut admin = Admin::connect_any(&state.link_addresses(), tls).await?;
        let answer = admin
            .api
            .get_cluster_status(GetClusterStatusRequest {})
            .await;
        let status = answer
            .map_err(|status| admin.failed("get the cluster's status", &status))?
            .into_inner();
        // Without shards the first run was cut off before the cluster was made.
        let cluster_id = if status.cluster_id.is_empty() || status.shard_count == 0 {
            let spec = |node: &DevNode| NodeSpec {
                node_id: node.node_id,
                raft_address: node.raft_address.to_string(),
                link_address: node.link_address.to_string(),
            };
            init(
                &mut admin,
                state.nodes.iter().map(spec).collect(),
                0, // by nodes and cores
            )
            .await?
        } else {
            status.cluster_id
        };
        self.wait_ready().await?;
        Ok((cluster_id, admin))
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let all_ready = async {
            while self.0.iter().any(|node| node.ready().is_err()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(READY_TIMEOUT, all_ready).await.is_ok() {
            return Ok(());
        }
        let reasons = self
            .0
            .iter()
            .filter_map(|node| Some(format!("node {}: {}", node.node_id(), node.ready().err()?)));
        Err(anyhow!(
            "not ready after {READY_TIMEOUT:?}: {}",
            reasons.collect::<Vec<_>>().join("; ")
        ))
    }

    /// Resolves when a node must stop, with the reason.
    pub(super) async fn failed(&self) -> String {
        let failures = self.0.iter().map(|node| {
            Box::pin(async { format!("node {}: {}", node.node_id(), node.failed().await) })
        });
        select_all(failures).await.0
    }

    pub(super) fn probe(&self, probes: &mut Probes) {
        for node in &self.0 {
            let probed = Arc::downgrade(node);
            probes.ready(format!("node {}", node.node_id()), move || {
                process::ask(&probed, |node| node.ready().map(|()| node.notes()))
            });
        }
    }

    /// Stops all at once: there is nobody to hand leadership to.
    pub(super) async fn shut_down(self) {
        join_all(
            self.0
                .into_iter()
                .map(async |node| process::sole(node).await.shutdown().await),
        )
        .await;
    }
}

/// The certificate of a role: the one of the run before, else a new one.
pub(super) fn certificate(authority: &Authority, role: &Role) -> anyhow::Result<TlsFiles> {
    let files = authority.files(role);
    if files.cert.exists() && files.key.exists() {
        Ok(files)
    } else {
        authority.issue(role, VALID)
    }
}
