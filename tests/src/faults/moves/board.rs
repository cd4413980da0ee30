//! What there is to strike, as it was before anything was struck.

use std::collections::BTreeSet;

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::super::Stage;

/// Who is there, and who has a move on already.
pub struct Board {
    pub nodes: Vec<u64>,
    gateways: usize,
    /// Of nodes, the one that leads most is taken with this chance, while it is free.
    leader: u64,
    leader_chance: f64,
    taken: BTreeSet<String>,
}

impl Board {
    /// Moves go to the node that leads most.
    pub async fn look(stage: &Stage<'_>) -> Result<Self> {
        Ok(Self {
            nodes: stage.cluster.nodes.keys().copied().collect(),
            gateways: stage.cluster.gateways.len(),
            leader: stage.cluster.busiest_leader().await?,
            leader_chance: 1.0,
            taken: BTreeSet::new(),
        })
    }

    /// Moves go to any node.
    pub fn by_chance(mut self) -> Self {
        self.leader_chance = 0.5;
        self
    }

    pub(super) fn take(&mut self, what: &str) -> bool {
        self.taken.insert(what.to_owned())
    }

    pub(super) fn node(&mut self, rng: &mut StdRng) -> Option<u64> {
        if rng.random_bool(self.leader_chance) && self.take(&format!("node {}", self.leader)) {
            return Some(self.leader);
        }
        let is_free = |id: &&u64| !self.taken.contains(&format!("node {id}"));
        let free: Vec<u64> = self.nodes.iter().filter(is_free).copied().collect();
        let node = *free.choose(rng)?;
        self.take(&format!("node {node}"));
        Some(node)
    }

    pub(super) fn gateway(&mut self, rng: &mut StdRng) -> Option<usize> {
        let is_free = |number: &usize| !self.taken.contains(&format!("gateway {number}"));
        let free: Vec<usize> = (0..self.gateways).filter(is_free).collect();
        let gateway = *free.choose(rng)?;
        self.take(&format!("gateway {gateway}"));
        Some(gateway)
    }
}
