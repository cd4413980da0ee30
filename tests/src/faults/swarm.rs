//! The swarm: by the seed, each run has a subset of the moves, and plays one or two of them at a time, again and again.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::Stage;
use super::moves::{Begun, Board, Move};
use crate::cluster::{ClusterSpec, binary};
use crate::disk;

const LENGTH_MS: std::ops::Range<u64> = 1500..6000;
/// The second begins and ends so much later.
const APART_MS: std::ops::Range<u64> = 0..1500;
const HEALED_WITHIN: Duration = Duration::from_secs(90);
/// A swarm has at least so many kinds of moves.
const KINDS_MIN: usize = 4;

/// What there is for a swarm.
#[derive(Debug, Clone, Copy)]
pub struct Means {
    /// Disks that can be made to fail.
    pub disks: bool,
    /// A build with switches, which can be told to end somewhere.
    pub switches: bool,
}

impl Means {
    /// Of this machine.
    pub fn here() -> Result<Self> {
        Ok(Self {
            disks: disk::can_fail()?,
            switches: binary::with_switches().is_some(),
        })
    }

    /// Of a cluster.
    pub fn of(cluster: &ClusterSpec) -> Self {
        let switches = binary::with_switches();
        Self {
            disks: cluster.disks,
            switches: switches.is_some() && switches == cluster.binary,
        }
    }

    fn suffice(self, one: Move) -> bool {
        (self.disks || !one.needs_disks()) && (self.switches || !one.needs_switches())
    }
}

/// The moves of one run.
pub fn draw(seed: u64, means: Means) -> Vec<Move> {
    let rng = &mut StdRng::seed_from_u64(seed ^ SWARM_SEED);
    let mut moves = Move::value_variants().to_vec();
    moves.shuffle(rng);
    moves.retain(|one| means.suffice(*one));
    let kinds = rng.random_range(KINDS_MIN..=moves.len());
    moves.truncate(kinds);
    moves.sort_unstable();
    moves
}

const SWARM_SEED: u64 = 0x0073_7761_726d;

/// One or two of them for one round.
pub fn pair(moves: &[Move], rng: &mut StdRng) -> Vec<Move> {
    let count = rng.random_range(1..=2);
    moves.choose_multiple(rng, count).copied().collect()
}

/// Plays them together.
pub async fn round(stage: &mut Stage<'_>, moves: &[Move]) -> Result<()> {
    let mut board = Board::look(stage).await?.by_chance();
    let mut begun = Vec::new();
    for what in moves {
        if !begun.is_empty() {
            sleep(Duration::from_millis(stage.rng.random_range(APART_MS))).await;
        }
        begun.extend(what.begin(stage, &mut board)?);
    }
    sleep(Duration::from_millis(stage.rng.random_range(LENGTH_MS))).await;
    begun.shuffle(stage.rng);
    let (mut last, first): (Vec<_>, Vec<_>) = begun.into_iter().partition(Begun::waits);
    let mut struck = 0;
    for one in first {
        struck += usize::from(one.end(stage).await?);
        sleep(Duration::from_millis(stage.rng.random_range(APART_MS) / 2)).await;
    }
    for one in &mut last {
        one.start_crashed(stage).await?;
    }
    for one in last {
        struck += usize::from(one.end(stage).await?);
    }
    if struck == 0 {
        bail!("none of {moves:?} struck");
    }
    stage.heal(HEALED_WITHIN).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_swarm_and_another_seed_another() {
        let with = |disks, switches| move |seed| draw(seed, Means { disks, switches });
        let of = with(true, true);
        assert_eq!(of(7), of(7));
        assert!((1..20).any(|seed| of(seed) != of(7)));
        assert!((1..50).all(|seed| of(seed).len() >= KINDS_MIN));
        let drawn = |moves: Vec<Move>, what: fn(Move) -> bool| moves.into_iter().any(what);
        let without = with(false, false);
        assert!(!(1..50).any(|seed| drawn(without(seed), Move::needs_disks)));
        assert!(!(1..50).any(|seed| drawn(without(seed), Move::needs_switches)));
        // In many swarms every move has its turn.
        let all: std::collections::BTreeSet<Move> = (1..50).flat_map(of).collect();
        assert_eq!(all.len(), Move::value_variants().len());
    }
}
