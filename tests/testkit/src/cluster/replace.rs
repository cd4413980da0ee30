//! Nodes that take the place of others.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::task::JoinHandle;

use super::asked::Asked;
use super::{Cluster, START_WITHIN};
use crate::admin::Admin;
use crate::wait::until;

/// A living node whose successor runs, and that the cluster is asked to replace.
pub struct Replacing {
    pub old: u64,
    pub new: u64,
    task: JoinHandle<Result<()>>,
}

impl Replacing {
    /// Waits until the cluster has taken the new node; moving what the old one has goes on behind it.
    pub async fn taken(self, cluster: &mut Cluster) -> Result<u64> {
        self.task.await??;
        let process = cluster.nodes.remove(&self.old);
        cluster.retired.extend(process);
        Ok(self.new)
    }
}

impl Cluster {
    /// Takes a node out for good and brings an empty one in, in its place. Gives the new node's id.
    pub async fn replace_node(&mut self, old: u64) -> Result<u64> {
        if let Some(mut process) = self.nodes.remove(&old) {
            process.kill()?;
            self.retired.push(process);
        }
        // What a broken disk leaves: nothing. Someone who wants the old files has copied them.
        let _ = std::fs::remove_dir_all(self.data_dir(old));
        let new = self
            .nodes
            .keys()
            .max()
            .copied()
            .unwrap_or_default()
            .max(old)
            + 1;
        self.add_node(new)?;
        self.node(new)?.start()?;
        let spec = self.node_spec(new);
        until(
            &format!("node {new} replaces node {old}"),
            START_WITHIN,
            async || {
                self.any_admin_but(new)
                    .await?
                    .replace(old, spec.clone())
                    .await
            },
        )
        .await?;
        Ok(new)
    }

    /// Brings a new node in for one that serves on until it is not needed any more; asks until the cluster takes it, which
    /// it does not while another one moves. Gives the new node's id; the old one
    /// is among the retired from here on.
    pub async fn replace_live_node(&mut self, old: u64, within: Duration) -> Result<u64> {
        self.begin_to_replace(old, within)?.taken(self).await
    }

    /// The same, with hands free until the cluster has taken the new one.
    pub fn begin_to_replace(&mut self, old: u64, within: Duration) -> Result<Replacing> {
        let new = self.next_node_id();
        self.add_node(new)?;
        self.node(new)?.start()?;
        let (asked, spec) = (Asked::all_but(self, Some(new)), self.node_spec(new));
        let task = tokio::spawn(async move {
            let replace = |mut admin: Admin| {
                let spec = spec.clone();
                async move { admin.replace(old, spec).await }
            };
            let done = asked.until_done(within, replace).await;
            done.with_context(|| format!("node {new} does not replace node {old}, which lives"))
        });
        Ok(Replacing { old, new, task })
    }

    /// No node ever had it.
    pub fn next_node_id(&self) -> u64 {
        let newest = self.nodes.keys().max().copied().unwrap_or_default();
        newest + 1
    }

    async fn any_admin_but(&self, node_id: u64) -> Result<Admin> {
        let mut last = anyhow!("no other node");
        for other in self.nodes.keys().filter(|id| **id != node_id) {
            match self.admin(*other).await {
                Ok(admin) => return Ok(admin),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
