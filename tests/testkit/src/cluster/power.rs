//! Disks of single nodes, and their power.

use anyhow::{Context, Result};

use super::Cluster;
use crate::disk::Disk;

impl Cluster {
    /// A node's disk, with `disks`.
    pub fn disk(&self, node_id: u64) -> Result<&Disk> {
        let disk = self.disks.get(&node_id);
        disk.with_context(|| format!("node {node_id} has no disk that can be made to fail"))
    }

    /// The power of some nodes fails: they die at once, and their disks forget what was not synced, with seed 0 all of it,
    /// else as the seed has it. Says what was forgotten.
    pub fn cut_power(&mut self, node_ids: &[u64], seed: u64) -> Result<Vec<String>> {
        for node_id in node_ids {
            self.node(*node_id)?.begin_to_kill()?;
        }
        for node_id in node_ids {
            self.disk(*node_id)?.switch_off()?; // what waits for a disk could not die else
        }
        for node_id in node_ids {
            self.node(*node_id)?.kill()?;
        }
        let cut = |node_id: &u64| {
            let own = if seed == 0 {
                0
            } else {
                seed.wrapping_add(*node_id)
            };
            let forgotten = self.disk(*node_id)?.cut(own)?;
            Ok(format!("node {node_id} {forgotten}"))
        };
        node_ids.iter().map(cut).collect()
    }
}
