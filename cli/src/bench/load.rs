//! One run: sessions that send and receive, a warm-up, a measured time, a drain; what it cost; who was the bottleneck.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use parlance_proto::ids::UserId;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::latency::{Latency, micros};
use super::processes::{self, Cost, per};
use super::session::{Pace, Session, Shared, Stage, Tally};
use super::stamp::Stamps;
use super::target::Target;
use super::verdict::{self, Generator};

/// What a run does.
#[derive(Debug, Clone)]
pub struct Plan {
    pub name: String,
    pub sessions: Vec<Part>,
    pub payload: usize,
    pub warm_up: Duration,
    pub length: Duration,
    /// Deliveries that every acknowledged message leads to.
    pub copies: u64,
}

/// What one session does.
#[derive(Debug, Clone)]
pub struct Part {
    pub user: UserId,
    pub to: UserId,
    pub pace: Pace,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub name: String,
    pub seconds: f64,
    pub acknowledged_per_second: f64,
    pub delivered_per_second: f64,
    pub ack: Latency,
    pub delivery: Latency,
    /// By all processes whose readings are known, the generator left out.
    pub written_bytes_per_message: Option<f64>,
    pub processes: Vec<Cost>,
    pub errors: BTreeMap<String, u64>,
    /// Connections that ended during the run, with the first reason.
    pub lost: u64,
    pub first_loss: Option<String>,
    /// Acknowledged messages that did not reach all receivers within the drain.
    pub undelivered: u64,
    pub generator: Generator,
}

const LOGINS_AT_ONCE: usize = 32;
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Logs the sessions in and runs the plan.
pub async fn run(target: &Target, plan: &Plan) -> anyhow::Result<Outcome> {
    let (outcome, _) = run_with(target, plan, async |_| Ok(())).await?;
    Ok(outcome)
}

/// As [`run`], with something else done while it is measured; also returns when each session's acknowledgements came.
pub async fn run_with(
    target: &Target,
    plan: &Plan,
    meanwhile: impl AsyncFnOnce(Stamps) -> anyhow::Result<()>,
) -> anyhow::Result<(Outcome, Vec<Tally>)> {
    let sessions = log_in(target, plan).await?;
    let (stage, watched) = watch::channel(Stage::Sending);
    let shared = Arc::new(Shared {
        stamps: Stamps::begin(),
        measuring: AtomicBool::new(false),
        stage: watched,
        payload: plan.payload,
        acknowledged: AtomicU64::new(0),
        delivered: AtomicU64::new(0),
    });
    let mut tasks = JoinSet::new();
    for (index, (session, part)) in sessions.into_iter().zip(&plan.sessions).enumerate() {
        let running = session.run(part.pace, part.to.clone(), shared.clone());
        tasks.spawn(async move { (index, running.await) });
    }
    tokio::time::sleep(plan.warm_up).await;

    let watcher = verdict::Watcher::start();
    let (before, started) = (processes::read_all(&target.processes), Instant::now());
    shared.measuring.store(true, Ordering::Relaxed);
    let (meanwhile, ()) = tokio::join!(meanwhile(shared.stamps), tokio::time::sleep(plan.length));
    shared.measuring.store(false, Ordering::Relaxed);
    let (after, elapsed) = (processes::read_all(&target.processes), started.elapsed());
    let generator = watcher.stop(&before, &after);
    meanwhile?;

    stage.send_replace(Stage::Draining);
    let deadline = Instant::now() + DRAIN_WITHIN;
    let undelivered = loop {
        let expected = shared.acknowledged.load(Ordering::Relaxed) * plan.copies;
        let missing = expected.saturating_sub(shared.delivered.load(Ordering::Relaxed));
        if missing == 0 || Instant::now() > deadline {
            break missing;
        }
        tokio::time::sleep(DRAIN_POLL).await;
    };
    stage.send_replace(Stage::Done);
    let mut tallies: Vec<Tally> = plan.sessions.iter().map(|_| Tally::default()).collect();
    while let Some(done) = tasks.join_next().await {
        let (index, tally) = done.context("a session of the generator failed")?;
        tallies[index] = tally;
    }
    let messages = tallies.iter().map(|t| t.acks.len() as u64).sum();
    let costs = processes::costs(&target.processes, &before, &after, messages);
    let outcome = sum_up(plan, elapsed, &tallies, costs, undelivered, generator);
    Ok((outcome, tallies))
}

async fn log_in(target: &Target, plan: &Plan) -> anyhow::Result<Vec<Session>> {
    let logins = plan
        .sessions
        .iter()
        .enumerate()
        .map(|(index, part)| async move {
            let token = target.token(&part.user)?;
            Session::open(target.gateway(index), None, &token)
                .await
                .with_context(|| format!("log {} in", part.user))
        });
    stream::iter(logins)
        .buffered(LOGINS_AT_ONCE)
        .try_collect()
        .await
}

fn sum_up(
    plan: &Plan,
    elapsed: Duration,
    tallies: &[Tally],
    processes: Vec<Cost>,
    undelivered: u64,
    generator: Generator,
) -> Outcome {
    let ack = Latency::of(
        tallies
            .iter()
            .flat_map(|t| t.acks.iter().map(|(latency, _)| *latency)),
    );
    let delivery = Latency::of(tallies.iter().flat_map(|t| t.deliveries.iter().copied()));
    let mut errors = BTreeMap::new();
    for (code, count) in tallies.iter().flat_map(|t| &t.errors) {
        *errors.entry(code.clone()).or_default() += count;
    }
    let written: Option<Vec<u64>> = processes
        .iter()
        .filter(|p| p.name != "generator")
        .map(|p| p.written_bytes)
        .collect();
    let written = written
        .filter(|all| !all.is_empty())
        .map(|all| per(all.iter().sum::<u64>() as f64, ack.count));
    let seconds = elapsed.as_secs_f64();
    Outcome {
        name: plan.name.clone(),
        seconds,
        acknowledged_per_second: ack.count as f64 / seconds,
        delivered_per_second: delivery.count as f64 / seconds,
        ack,
        delivery,
        written_bytes_per_message: written,
        processes,
        errors,
        lost: tallies.iter().filter(|t| t.lost.is_some()).count() as u64,
        first_loss: tallies.iter().find_map(|t| t.lost.clone()),
        undelivered,
        generator,
    }
}

/// The longest time without an acknowledgement on any of several shards, within a window; times in microseconds.
pub fn longest_gap(
    by_shard: &BTreeMap<u32, Vec<u32>>,
    window: (Duration, Duration),
) -> Option<(u32, Duration)> {
    let (from, to) = (micros(window.0), micros(window.1));
    let gap_of = |times: &Vec<u32>| {
        let mut inside: Vec<u32> = times
            .iter()
            .copied()
            .filter(|t| (from..=to).contains(t))
            .collect();
        inside.sort_unstable();
        let ends = std::iter::once(from)
            .chain(inside)
            .chain(std::iter::once(to));
        let ends: Vec<u32> = ends.collect();
        ends.windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or(0)
    };
    let gaps = by_shard
        .iter()
        .map(|(shard, times)| (*shard, gap_of(times)));
    gaps.max_by_key(|(_, gap)| *gap)
        .map(|(shard, gap)| (shard, Duration::from_micros(gap.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_that_of_the_worst_shard_ends_included() {
        let ms = Duration::from_millis;
        let times = |all: &[u32]| all.iter().map(|t| t * 1000).collect::<Vec<_>>();
        let shards = BTreeMap::from([
            (1, times(&[0, 10, 20, 30, 40])),
            (2, times(&[40, 0, 9, 31])),
        ]);
        assert_eq!(longest_gap(&shards, (ms(0), ms(40))), Some((2, ms(22))));
        assert_eq!(longest_gap(&shards, (ms(0), ms(90))).unwrap().1, ms(50));
        assert_eq!(
            longest_gap(&BTreeMap::from([(3, vec![])]), (ms(5), ms(9))),
            Some((3, ms(4)))
        );
        assert_eq!(longest_gap(&BTreeMap::new(), (ms(5), ms(9))), None);
    }
}
