//! What happens in a run, one thing after the other.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep, sleep_until};

use super::ChaosSpec;
use crate::bulk::Bulk;
use crate::cluster::Cluster;
use crate::faults::moves::Move;
use crate::faults::swarm::{self, Deck, Means};
use crate::faults::{Fault, Stage, Strikes, Turns};
use crate::history::{Closing, History, What};
use crate::load::Load;
use crate::logs::Allowed;
use crate::readers::NodeReaders;
use crate::recovery;
use crate::whisper::Whispers;

/// Load without a fault before the first one.
const WARM_UP: Duration = Duration::from_secs(1);
/// Turns of a move of the swarm that has not struck, at the end of a run.
const TURNS_MORE: usize = 3;

/// What a node takes in at least when it is fed.
const BYTES_A_SECOND: u64 = 4 << 20;

/// A run under way.
struct Driver<'a> {
    cluster: &'a mut Cluster,
    load: &'a Load,
    whispers: Whispers,
    history: &'a History,
    allowed: &'a mut Allowed,
    rng: StdRng,
    strikes: &'a mut Vec<(String, Strikes)>,
    turns: &'a mut Turns,
    patience: Duration,
    seed: u64,
    /// Events of quiet conversations that were acknowledged.
    whispered: usize,
}

impl Driver<'_> {
    /// One fault, with whispers in the middle of it.
    async fn round(
        &mut self,
        name: &str,
        fault: impl AsyncFnOnce(&mut Stage<'_>) -> Result<()>,
    ) -> Result<()> {
        self.history.note(format!("fault: {name}"));
        let over = |over| What::Fault {
            name: name.to_owned(),
            over,
        };
        self.history.record(over(false));
        let whispering = self.whispers.begin();
        let mut strikes = Strikes::default();
        let mut stage = Stage {
            cluster: &mut *self.cluster,
            load: self.load,
            history: self.history,
            rng: &mut self.rng,
            allowed: &mut *self.allowed,
            strikes: &mut strikes,
            turns: &mut *self.turns,
            patience: self.patience,
        };
        let done = fault(&mut stage).await;
        self.history.record(over(true));
        match self.strikes.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.all(strikes),
            None => self.strikes.push((name.to_owned(), strikes)),
        }
        done?;
        let whispered = whispering.end(&self.whispers, self.load, self.history);
        let whispered = whispered.await?;
        self.history.note(format!("{whispered} whispers were told"));
        self.whispered += whispered;
        Ok(())
    }

    async fn fault(&mut self, fault: Fault, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        let name = fault.to_string();
        match fault {
            Fault::None => {
                self.round(&name, async |_| {
                    sleep_until(until).await;
                    Ok(())
                })
                .await
            }
            Fault::Swarm => self.swarm(until).await,
            fault => {
                self.round(&name, async |stage| fault.run(stage).await)
                    .await?;
                sleep_until(until).await;
                let struck = self.strikes.iter().find(|(known, _)| *known == name);
                if struck.is_none_or(|(_, strikes)| strikes.is_empty()) {
                    bail!("the fault {name} never struck");
                }
                Ok(())
            }
        }
    }

    async fn swarm(&mut self, until: Instant) -> Result<()> {
        let moves = swarm::draw(self.seed, Means::of(&self.cluster.spec));
        self.history.note(format!("this swarm has {moves:?}"));
        for one in &moves {
            self.turns.drawn(*one);
        }
        let mut deck = Deck::of(moves);
        while Instant::now() < until {
            let moves = deck.deal(&mut self.rng);
            let struck = self.moves(&moves).await?;
            deck.has_struck(&struck);
        }
        // What never struck is no part of what a run has shown: a node may just not have been behind far enough, or not have
        // led. It gets more turns, alone.
        for one in deck.idle() {
            for _ in 0..TURNS_MORE {
                if self.moves(&[one]).await?.contains(&one) {
                    break;
                }
            }
            if self.turns.never_struck(one) {
                bail!("{one} never struck");
            }
        }
        Ok(())
    }

    /// Gives those that have struck.
    async fn moves(&mut self, moves: &[Move]) -> Result<Vec<Move>> {
        let names: Vec<String> = moves.iter().map(ToString::to_string).collect();
        let mut struck = Vec::new();
        self.round(&names.join(" and "), async |stage| {
            struck = swarm::round(stage, moves).await?;
            Ok(())
        })
        .await?;
        Ok(struck)
    }
}

pub(super) async fn drive(
    spec: &ChaosSpec,
    cluster: &mut Cluster,
    history: &History,
    allowed: &mut Allowed,
    strikes: &mut Vec<(String, Strikes)>,
    turns: &mut Turns,
) -> Result<Closing> {
    let (gateways, signer) = (cluster.gateway_addresses(), cluster.signer.clone());
    let mut load = Load::start(&spec.load, &gateways, &signer, history).await?;
    let seed = spec.seed ^ WHISPER_SEED;
    let whispers = Whispers::start(&load, &gateways, &signer, history, seed).await?;
    let bulk = Bulk::write(&gateways, &signer, spec.bulk_bytes).await?;
    let readers = NodeReaders::start(cluster, &load.conversations, history, seed).await?;
    history.note("load: on");
    sleep(WARM_UP).await;
    let slice = spec.length / u32::try_from(spec.faults.len().max(1)).unwrap_or(1);
    let mut driver = Driver {
        cluster: &mut *cluster,
        load: &load,
        whispers,
        history,
        allowed,
        rng: StdRng::seed_from_u64(spec.seed ^ FAULT_SEED),
        strikes,
        turns,
        patience: Duration::from_secs(spec.bulk_bytes / BYTES_A_SECOND),
        seed: spec.seed,
        whispered: 0,
    };
    for fault in &spec.faults {
        driver.fault(*fault, slice).await?;
    }
    let whispers = driver.whispers;
    ensure!(
        driver.whispered > 0,
        "no quiet conversation was spoken in: lost pushes would not be noticed"
    );
    history.note(format!("readers of nodes: {:?}", readers.answers));
    ensure!(
        readers.answers.pages.load(Ordering::Relaxed) > 0,
        "no reader that is linked to a node got a page: stale reads would not be noticed"
    );
    drop(readers);
    let closing = recovery::settle(cluster, &mut load, history).await?;
    drop(whispers);
    bulk.check(&gateways, &signer).await?;
    Ok(closing)
}

/// Faults, whispers and load draw from different streams of one seed.
const FAULT_SEED: u64 = 0x6661_756c_7473;
const WHISPER_SEED: u64 = 0x7073_7374;
