//! Nodes that take the place of others.

use std::time::Duration;

use anyhow::{Result, anyhow};

use super::{Cluster, START_WITHIN};
use crate::admin::Admin;
use crate::wait::until;

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
        let newest = self.nodes.keys().max().copied().unwrap_or_default();
        let new = newest.max(old) + 1;
        self.add_node(new)?;
        self.node(new)?.start()?;
        let spec = self.node_spec(new);
        let what = format!("node {new} replaces node {old}, which lives");
        until(&what, within, async || {
            let mut admin = self.any_admin_but(new).await?;
            admin.replace(old, spec.clone()).await
        })
        .await?;
        let process = self.nodes.remove(&old);
        self.retired.extend(process);
        Ok(new)
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
