//! The swarm: by the seed, each run has a subset of the moves, and plays one or two of them at a time, again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
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
    pub nodes: u64,
}

impl Means {
    /// Of this machine, for a cluster.
    pub fn here(cluster: &ClusterSpec) -> Result<Self> {
        Ok(Self {
            disks: disk::can_fail()?,
            switches: binary::needed_with_switches()?.is_some(),
            nodes: cluster.nodes,
        })
    }

    /// Of a cluster.
    pub fn of(cluster: &ClusterSpec) -> Self {
        let switches = binary::with_switches();
        Self {
            disks: cluster.disks,
            switches: switches.is_some() && switches == cluster.binary,
            nodes: cluster.nodes,
        }
    }

    fn suffice(self, one: Move) -> bool {
        (self.disks || !one.needs_disks())
            && (self.switches || !one.needs_switches())
            && self.nodes >= one.needs_nodes()
    }
}

/// The moves of one run.
pub fn draw(seed: u64, means: Means) -> Vec<Move> {
    let rng = &mut StdRng::seed_from_u64(seed ^ SWARM_SEED);
    let mut moves = Move::value_variants().to_vec();
    moves.shuffle(rng);
    moves.retain(|one| means.suffice(*one));
    // A node whose clock is days off bans for days that are over elsewhere: what operators have said could not be judged. Of the
    // two only the first is drawn.
    let at = |wanted| moves.iter().position(|one| *one == wanted);
    if let (Some(clocks), Some(operators)) = (at(Move::ClocksJump), at(Move::Operators)) {
        moves.remove(clocks.max(operators));
    }
    let kinds = rng.random_range(KINDS_MIN..=moves.len());
    moves.truncate(kinds);
    moves.sort_unstable();
    moves
}

const SWARM_SEED: u64 = 0x0073_7761_726d;

/// The moves of a run, dealt so that each has had its turn before any comes again.
pub struct Deck {
    all: Vec<Move>,
    left: Vec<Move>,
    /// Those that were on and have not struck yet.
    idle: BTreeSet<Move>,
    struck: BTreeSet<Move>,
}

impl Deck {
    pub fn of(all: Vec<Move>) -> Self {
        Self {
            all,
            left: Vec::new(),
            idle: BTreeSet::new(),
            struck: BTreeSet::new(),
        }
    }

    /// One or two of them for one round.
    pub fn deal(&mut self, rng: &mut StdRng) -> Vec<Move> {
        let count = rng.random_range(1..=2).min(self.all.len());
        let mut dealt = Vec::new();
        while dealt.len() < count {
            let next = self.left.iter().rposition(|one| !dealt.contains(one));
            if let Some(next) = next {
                dealt.push(self.left.remove(next));
                continue;
            }
            let mut more = self.all.clone();
            more.shuffle(rng);
            more.append(&mut self.left);
            self.left = more;
        }
        let new = dealt.iter().filter(|one| !self.struck.contains(one));
        self.idle.extend(new);
        dealt
    }

    pub fn has_struck(&mut self, moves: &[Move]) {
        self.struck.extend(moves);
        self.idle.retain(|one| !moves.contains(one));
    }

    /// Those that were dealt and never struck.
    pub fn idle(&self) -> Vec<Move> {
        self.idle.iter().copied().collect()
    }
}

/// Plays them together; gives those that struck.
pub async fn round(stage: &mut Stage<'_>, moves: &[Move]) -> Result<Vec<Move>> {
    let mut board = Board::look(stage).await?.by_chance();
    let mut begun = Vec::new();
    for what in moves {
        if !begun.is_empty() {
            sleep(Duration::from_millis(stage.rng.random_range(APART_MS))).await;
        }
        match what.begin(stage, &mut board)? {
            Ok(one) => {
                stage.turns.begun(*what);
                begun.push(one);
            }
            Err(why) => {
                stage.history.note(format!("{what} cannot begin: {why}"));
                stage.turns.could_not(*what, why);
            }
        }
    }
    if begun.is_empty() {
        return Ok(Vec::new());
    }
    sleep(Duration::from_millis(stage.rng.random_range(LENGTH_MS))).await;
    begun.shuffle(stage.rng);
    let (mut last, first): (Vec<_>, Vec<_>) = begun.into_iter().partition(Begun::waits);
    last.sort_by_key(Begun::looks_at_all);
    let mut struck = Vec::new();
    for one in first {
        struck.extend(one.end(stage).await?);
        sleep(Duration::from_millis(stage.rng.random_range(APART_MS) / 2)).await;
    }
    for one in &mut last {
        one.start_crashed(stage).await?;
    }
    for one in last {
        struck.extend(one.end(stage).await?);
    }
    for what in &struck {
        stage.turns.struck(*what);
    }
    stage.heal(HEALED_WITHIN).await?;
    Ok(struck)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_swarm_and_another_seed_another() {
        let with = |disks, switches| {
            move |seed| {
                let nodes = 5;
                draw(
                    seed,
                    Means {
                        disks,
                        switches,
                        nodes,
                    },
                )
            }
        };
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

    #[test]
    fn each_move_has_its_turn_before_any_comes_again_and_what_never_struck_is_known() {
        let rng = &mut StdRng::seed_from_u64(7);
        let all = [Move::KillNode, Move::Split, Move::Halves].to_vec();
        let mut deck = Deck::of(all.clone());
        let mut dealt = Vec::new();
        while dealt.len() < 12 {
            let moves = deck.deal(rng);
            assert!(moves.len() == 1 || moves[0] != moves[1]);
            dealt.extend(moves);
        }
        for one in all {
            assert!(dealt.iter().filter(|dealt| **dealt == one).count() >= 3);
        }
        deck.has_struck(&[Move::KillNode, Move::Split]);
        deck.deal(rng);
        assert_eq!(deck.idle(), [Move::Halves]);
    }
}
