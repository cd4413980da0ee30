//! The swarm: by the seed, each run has a subset of the moves, and plays one or two of them at a time, again and again.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::Stage;
use super::moves::{Board, Move};

const LENGTH_MS: std::ops::Range<u64> = 1500..6000;
/// The second begins and ends so much later.
const APART_MS: std::ops::Range<u64> = 0..1500;
const HEALED_WITHIN: Duration = Duration::from_secs(90);
/// A swarm has at least so many kinds of moves.
const KINDS_MIN: usize = 4;

/// The moves of one run; with disks that can be made to fail, or without.
pub fn draw(seed: u64, disks: bool) -> Vec<Move> {
    let rng = &mut StdRng::seed_from_u64(seed ^ SWARM_SEED);
    let mut moves = Move::value_variants().to_vec();
    moves.shuffle(rng);
    moves.retain(|one| disks || !one.needs_disks());
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
    let mut struck = 0;
    for one in begun {
        struck += usize::from(one.end(stage)?);
        sleep(Duration::from_millis(stage.rng.random_range(APART_MS) / 2)).await;
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
        let of = |seed| draw(seed, true);
        assert_eq!(of(7), of(7));
        assert!((1..20).any(|seed| of(seed) != of(7)));
        assert!((1..50).all(|seed| of(seed).len() >= KINDS_MIN));
        assert!((1..50).all(|seed| !draw(seed, false).iter().any(|one| one.needs_disks())));
        // In many swarms every move has its turn.
        let all: std::collections::BTreeSet<Move> = (1..50).flat_map(of).collect();
        assert_eq!(all.len(), Move::value_variants().len());
    }
}
