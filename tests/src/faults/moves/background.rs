//! Moves that go on doing something while they are on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::Stage;
use super::super::nodes::Nodes;
use crate::cluster::process::Brake;

const BREAK_EVERY_MS: std::ops::Range<u64> = 20..120;
const STROBE_EVERY_MS: std::ops::Range<u64> = 20..200;
/// To and fro by up to so much, in ms.
const STROBE_MS: i64 = 3 * 24 * 3_600_000;
/// For most of the time, and mostly for less than an election takes.
const HELD_MS: std::ops::Range<u64> = 20..900;
const LET_GO_MS: std::ops::Range<u64> = 5..200;
const HAND_OVER_EVERY: Duration = Duration::from_millis(300);
const HAND_OVER_WITHIN_MS: u32 = 1000;

/// A task that strikes until it is stopped.
pub(super) struct Background {
    on: String,
    strikes: Arc<AtomicU64>,
    task: JoinHandle<()>,
    after: After,
}

/// What is to be done when it is stopped.
enum After {
    Nothing,
    SetRight(String),
    LetGo(Brake),
}

impl Background {
    fn start<F: Future<Output = ()> + Send + 'static>(
        on: &str,
        work: impl FnOnce(Arc<AtomicU64>) -> F,
    ) -> Self {
        let strikes = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(work(strikes.clone()));
        Self {
            on: on.to_owned(),
            strikes,
            task,
            after: After::Nothing,
        }
    }

    pub(super) fn drop_connections(stage: &mut Stage<'_>) -> Self {
        let sessions = stage.load.sessions.clone();
        let mut rng = StdRng::seed_from_u64(stage.rng.random());
        Self::start("connections of clients", |strikes| async move {
            while let Some(session) = sessions.choose(&mut rng) {
                session.reconnect().await;
                strikes.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(rng.random_range(BREAK_EVERY_MS))).await;
            }
        })
    }

    pub(super) fn strobe(stage: &mut Stage<'_>, node: u64) -> Result<Self> {
        let name = stage.cluster.node(node)?.name.clone();
        let clocks = stage.cluster.clocks.as_ref().context("no clocks")?;
        let hand = clocks.hand(&name)?;
        let mut rng = StdRng::seed_from_u64(stage.rng.random());
        let mut background = Self::start(&format!("clock of {name}"), |strikes| async move {
            while hand.set(rng.random_range(-STROBE_MS..STROBE_MS)).is_ok() {
                strikes.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(rng.random_range(STROBE_EVERY_MS))).await;
            }
        });
        background.after = After::SetRight(name);
        Ok(background)
    }

    pub(super) fn stutter(stage: &mut Stage<'_>, node: u64) -> Result<Self> {
        let brake = stage.cluster.node(node)?.brake()?;
        let mut rng = StdRng::seed_from_u64(stage.rng.random());
        let mut background = Self::start(&format!("node {node}"), |strikes| async move {
            while brake.hold().is_ok() {
                strikes.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(rng.random_range(HELD_MS))).await;
                let _ = brake.let_go(); // it has ended: so does this
                sleep(Duration::from_millis(rng.random_range(LET_GO_MS))).await;
            }
        });
        background.after = After::LetGo(brake);
        Ok(background)
    }

    pub(super) fn transfers(stage: &mut Stage<'_>) -> Self {
        let nodes = Nodes::of(stage);
        Self::start("leaderships", |strikes| async move {
            for node in nodes.all().iter().cycle() {
                let drained = nodes.ask(node, async |admin| admin.drain(HAND_OVER_WITHIN_MS).await);
                if drained.await.is_some() {
                    strikes.fetch_add(1, Ordering::Relaxed);
                }
                sleep(HAND_OVER_EVERY).await;
            }
        })
    }

    /// Gives how often it struck.
    pub(super) fn stop(self, stage: &mut Stage<'_>) -> Result<u64> {
        self.task.abort();
        match self.after {
            After::Nothing => {}
            After::SetRight(name) => {
                let clocks = stage.cluster.clocks.as_ref().context("no clocks")?;
                clocks.hand(&name)?.set(0)?;
            }
            After::LetGo(brake) => brake.let_go()?,
        }
        Ok(self.strikes.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.on)
    }
}
