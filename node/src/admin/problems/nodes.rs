//! Nodes that are not heard, or that have found something wrong with themselves.

use std::collections::BTreeSet;

use parlance_proto::admin::v1::{NodeStatus, Problem};

use super::{Seen, problem, seconds};
use crate::cluster::{DISK_SILENT_MS, store_trouble, takes};

/// Below this, or below a twentieth if that is less than [`AMPLE_BYTES`], a disk is low.
const LOW_BYTES: u64 = 2 << 30;
/// A disk with so much room is not low, however large it is.
const AMPLE_BYTES: u64 = 20 << 30;
/// A clock so far from the others' is wrong. Below it may be the way that the message took.
const CLOCK_APART_MS: u64 = 2_000;
/// A push should be with its gateways long before this.
const PUSH_LATE_MS: u64 = 30_000;

impl Seen<'_> {
    pub(super) fn unheard(&self) -> Vec<Problem> {
        let lost = self.members().filter(|node| !node.reachable);
        lost.map(|node| {
            problem(
                "node_unheard",
                format!(
                    "node {} at {} is not heard by node {}",
                    node.node_id, node.raft_address, self.status.answering_node_id
                ),
                format!(
                    "look at its process and its network; if it is lost: parlance node replace {}",
                    node.node_id
                ),
            )
        })
        .collect()
    }

    pub(super) fn disks(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for (node, health) in self.health.iter().filter(|(_, h)| h.disk_lacking > 0) {
            found.push(problem(
                "disk_full",
                format!(
                    "the disk of node {node} is full: {} free, the node {}",
                    gib(health.disk_free_bytes),
                    takes(health)
                ),
                "make room, or grow the disk: the node goes on by itself",
            ));
        }
        let is_full = |id| (self.health.get(&id)).is_some_and(|health| health.disk_lacking > 0);
        let low = self.members().filter(|node| is_low(node));
        for node in low.filter(|node| !is_full(node.node_id)) {
            found.push(problem(
                "disk_low",
                format!(
                    "node {} has {} free of {}",
                    node.node_id,
                    gib(node.disk_free_bytes),
                    gib(node.disk_total_bytes)
                ),
                "make room before it is full: a node without room takes nothing and leads nothing",
            ));
        }
        for (node, health) in self.health {
            for trouble in &health.stores {
                found.push(problem(
                    "store_failing",
                    format!("node {node}: {}", store_trouble(trouble)),
                    "look at the disk and at the node's log",
                ));
            }
            if health.disk_silent_ms >= DISK_SILENT_MS {
                found.push(problem(
                    "disk_silent",
                    format!(
                        "node {node}: the disk has not answered for {}",
                        seconds(health.disk_silent_ms)
                    ),
                    "look at the disk: the node leads nothing as long as it cannot write",
                ));
            }
        }
        found
    }

    pub(super) fn late_pushes(&self) -> Vec<Problem> {
        let late = self.health.iter();
        let late = late.filter(|(_, health)| health.oldest_push_ms > PUSH_LATE_MS);
        late.map(|(node, health)| {
            problem(
                "pushes_late",
                format!(
                    "node {node}: a push has been under way for {}",
                    seconds(health.oldest_push_ms)
                ),
                "look for a shard without a leader, a node that is not heard, or a link that is stuck",
            )
        })
        .collect()
    }

    /// Each is compared with the middle of all, so that the one that is wrong is named, whoever answers.
    pub(super) fn clocks(&self) -> Vec<Problem> {
        let heard = || self.members().filter(|node| node.reachable);
        let mut clocks: Vec<i64> = heard().map(|node| node.clock_ahead_ms).collect();
        clocks.sort_unstable();
        let Some(middle) = clocks.get(clocks.len() / 2).copied() else {
            return Vec::new();
        };
        let apart = heard().filter_map(|node| {
            let ahead = node.clock_ahead_ms.saturating_sub(middle);
            let far = ahead.unsigned_abs() > CLOCK_APART_MS;
            far.then(|| {
                problem(
                    "clocks_apart",
                    format!(
                        "the clock of node {} is {} {} the others'",
                        node.node_id,
                        seconds(ahead.unsigned_abs()),
                        if ahead > 0 { "ahead of" } else { "behind" }
                    ),
                    "run NTP on all nodes",
                )
            })
        });
        apart.collect()
    }

    pub(super) fn upgrade_due(&self) -> Vec<Problem> {
        let (is, possible) = (
            self.status.feature_level,
            self.status.feature_level_possible,
        );
        if possible <= is {
            return Vec::new();
        }
        vec![problem(
            "upgrade_due",
            format!(
                "all nodes that are heard speak feature level {possible}, the cluster has {is}"
            ),
            "once all nodes and gateways run the new version: parlance cluster upgrade",
        )]
    }

    pub(super) fn versions_differ(&self) -> Vec<Problem> {
        let versions: BTreeSet<&str> = (self.members().map(|node| node.version.as_str()))
            .chain((self.status.gateways.iter()).map(|gateway| gateway.version.as_str()))
            .filter(|version| !version.is_empty())
            .collect();
        if versions.len() < 2 {
            return Vec::new();
        }
        let versions: Vec<&str> = versions.into_iter().collect();
        vec![problem(
            "versions_differ",
            format!("versions {} run side by side", versions.join(", ")),
            "finish the upgrade, or take it back",
        )]
    }
}

fn is_low(node: &NodeStatus) -> bool {
    let (free, total) = (node.disk_free_bytes, node.disk_total_bytes);
    total > 0 && (free < LOW_BYTES || free < (total / 20).min(AMPLE_BYTES))
}

fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 30;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}
