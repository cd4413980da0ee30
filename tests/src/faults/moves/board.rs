//! What there is to strike, as it was before anything was struck.

use std::collections::BTreeSet;

use anyhow::Result;
use parlance_proto::admin::v1::ShardStatus;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::super::Stage;

/// A swarm splits no further: a small machine bears no more.
const SHARDS_MAX: usize = 12;
const SLOTS_MIN: u32 = 64;

/// Who is there, and who has a move on already.
pub struct Board {
    pub nodes: Vec<u64>,
    gateways: usize,
    /// Of nodes, the one that leads most is taken with this chance, while it is free.
    leader: u64,
    leader_chance: f64,
    /// Nodes that lead a shard.
    leading: Vec<u64>,
    /// Entries that were applied in the shard that has most.
    pub(super) applied: u64,
    /// The shards that may be split.
    shards: Vec<ShardStatus>,
    taken: BTreeSet<String>,
}

impl Board {
    /// Moves go to the node that leads most.
    pub async fn look(stage: &Stage<'_>) -> Result<Self> {
        let status = stage.cluster.any_admin().await?.status().await?;
        let leading = status.nodes.iter().filter(|node| node.leads > 0);
        let leading = leading.map(|node| node.node_id).collect();
        let mut shards = status.shards;
        let applied = shards.iter().map(|shard| shard.applied).max();
        let enough = shards.len() >= SHARDS_MAX;
        shards.retain(|shard| !enough && shard.last_slot - shard.first_slot >= SLOTS_MIN);
        Ok(Self {
            shards,
            nodes: stage.cluster.nodes.keys().copied().collect(),
            gateways: stage.cluster.gateways.len(),
            leader: stage.cluster.busiest_leader().await?,
            leader_chance: 1.0,
            leading,
            applied: applied.unwrap_or_default(),
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
        let nodes = self.nodes.clone();
        self.leader_or_one_of(&nodes, rng)
    }

    /// One that gateways have something to say to.
    pub(super) fn leading_node(&mut self, rng: &mut StdRng) -> Option<u64> {
        let nodes = self.leading.clone();
        self.leader_or_one_of(&nodes, rng)
    }

    fn leader_or_one_of(&mut self, nodes: &[u64], rng: &mut StdRng) -> Option<u64> {
        if rng.random_bool(self.leader_chance) && self.take(&format!("node {}", self.leader)) {
            return Some(self.leader);
        }
        let is_free = |id: &&u64| !self.taken.contains(&format!("node {id}"));
        let free: Vec<u64> = nodes.iter().filter(is_free).copied().collect();
        let node = *free.choose(rng)?;
        self.take(&format!("node {node}"));
        Some(node)
    }

    /// All of them, by chance; where moves go to the node that leads most, it is the first.
    pub(super) fn order(&self, rng: &mut StdRng) -> Vec<u64> {
        let mut nodes = self.nodes.clone();
        nodes.shuffle(rng);
        if rng.random_bool(self.leader_chance) {
            nodes.sort_by_key(|id| *id != self.leader);
        }
        nodes
    }

    /// Two of them or more, up to all.
    pub(super) fn some_nodes(&mut self, rng: &mut StdRng) -> Option<Vec<u64>> {
        let is_free = |id: &u64| !self.taken.contains(&format!("node {id}"));
        let mut nodes: Vec<u64> = self.order(rng).into_iter().filter(is_free).collect();
        if nodes.len() < 2 {
            return None;
        }
        nodes.truncate(rng.random_range(2..=nodes.len()));
        nodes.sort_unstable();
        for id in &nodes {
            self.take(&format!("node {id}"));
        }
        Some(nodes)
    }

    /// All that no other move is on.
    pub(super) fn take_other_nodes(&mut self) -> Vec<u64> {
        let nodes = self.nodes.clone();
        let free = |id: &u64| self.take(&format!("node {id}"));
        nodes.into_iter().filter(free).collect()
    }

    /// With its leader, if that is wanted.
    pub(super) fn shard(&mut self, rng: &mut StdRng, with_leader: bool) -> Option<ShardStatus> {
        let shard = self.shards.choose(rng)?.clone();
        let leader = format!("node {}", shard.leader);
        let free = self.take("shards") && (!with_leader || self.take(&leader));
        free.then_some(shard)
    }

    pub(super) fn gateway(&mut self, rng: &mut StdRng) -> Option<usize> {
        let is_free = |number: &usize| !self.taken.contains(&format!("gateway {number}"));
        let free: Vec<usize> = (0..self.gateways).filter(is_free).collect();
        let gateway = *free.choose(rng)?;
        self.take(&format!("gateway {gateway}"));
        Some(gateway)
    }
}
