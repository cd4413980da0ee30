//! `parlance bench send`: acknowledged messages a second, and how long acknowledgement and delivery take.
//!
//! The users stand in a ring: each sends to the next, who is at another gateway, so that every message crosses the
//! whole system once. Every conversation has one sender.

use std::time::Duration;

use super::load::{self, Outcome, Part, Plan};
use super::report;
use super::session::Pace;
use super::target::Target;
use crate::args::bench::SendBenchArgs;
use crate::commands::Session;
use crate::exit::not_possible;
use crate::output::say;

/// Steps of the search; each halves what is left.
const SEARCH_STEPS: u32 = 5;
/// Sessions that an offered rate is spread over.
const OPEN_SENDERS: usize = 1024;
/// A rate that is not reached is no rate, whatever its latency.
const REACHED_MIN: f64 = 0.98;

pub async fn run(session: &Session, args: SendBenchArgs) -> anyhow::Result<()> {
    if args.senders.contains(&0) || args.rate == Some(0) {
        return Err(not_possible("0 senders or a rate of 0 measure nothing"));
    }
    let target = Target::open(session, &args.target).await?;
    let mut runs = Vec::new();
    if let Some(rate) = args.rate {
        runs.push(measure(&target, open(&target, &args, f64::from(rate))?).await?);
    } else {
        for senders in &args.senders {
            runs.push(measure(&target, closed(&target, &args, *senders)?).await?);
        }
        if !args.p99_limit.is_zero() {
            runs.extend(search(&target, &args, &runs).await?);
        }
    }
    report::print(
        session,
        "send",
        &target,
        target.summary(&args.target),
        &runs,
        report::outcomes,
    )?;
    target.close().await
}

async fn measure(target: &Target, plan: Plan) -> anyhow::Result<Outcome> {
    let outcome = load::run(target, &plan).await?;
    report::say_run(&outcome);
    Ok(outcome)
}

/// Each sender waits for its acknowledgement.
fn closed(target: &Target, args: &SendBenchArgs, senders: usize) -> anyhow::Result<Plan> {
    plan(
        target,
        args,
        format!("{senders} in flight"),
        senders,
        |_| Pace::Closed(1),
    )
}

/// Messages come at a rate, whatever the answers, evenly spread over time and senders.
fn open(target: &Target, args: &SendBenchArgs, rate: f64) -> anyhow::Result<Plan> {
    let senders = OPEN_SENDERS.min(rate.ceil() as usize).max(1);
    let every = Duration::from_secs_f64(senders as f64 / rate);
    plan(
        target,
        args,
        format!("{rate:.0}/s offered"),
        senders,
        |index| Pace::Open {
            first: every.mul_f64(index as f64 / senders as f64),
            every,
        },
    )
}

fn plan(
    target: &Target,
    args: &SendBenchArgs,
    name: String,
    senders: usize,
    pace: impl Fn(usize) -> Pace,
) -> anyhow::Result<Plan> {
    // Gateways take turns by session, so that neighbours are at different ones.
    let users = (0..senders.max(2)).map(|_| target.new_user());
    let users = users.collect::<anyhow::Result<Vec<_>>>()?;
    let sessions = (0..users.len()).map(|index| Part {
        user: users[index].clone(),
        to: users[(index + 1) % users.len()].clone(),
        pace: if index < senders {
            pace(index)
        } else {
            Pace::Silent
        },
    });
    Ok(Plan {
        name,
        sessions: sessions.collect(),
        payload: usize::from(args.payload),
        warm_up: args.warm_up,
        length: args.length,
        copies: 1,
    })
}

/// The highest rate that is reached with a p99 under the limit, by halving an interval. None if none is.
async fn search(
    target: &Target,
    args: &SendBenchArgs,
    closed: &[Outcome],
) -> anyhow::Result<Option<Outcome>> {
    let limit_ms = args.p99_limit.as_secs_f64() * 1000.0;
    let seen = closed
        .iter()
        .map(|run| run.acknowledged_per_second)
        .fold(0.0, f64::max);
    if seen < 1.0 {
        return Ok(None);
    }
    say(format!(
        "looking for the highest rate whose acknowledgements stay under {limit_ms:.0} ms (p99)"
    ));
    // Waiting senders lose no time to timers, so that little more than their rate can be expected.
    let (mut good, mut bad) = (0.0, seen * 1.5);
    let mut best = None;
    for _ in 0..SEARCH_STEPS {
        let rate = (good + bad) / 2.0;
        let outcome = measure(target, open(target, args, rate)?).await?;
        if keeps_up(&outcome, rate, limit_ms) {
            good = rate;
            best = Some(Outcome {
                name: format!("p99 < {limit_ms:.0} ms: {rate:.0}/s"),
                ..outcome
            });
        } else {
            bad = rate;
        }
    }
    Ok(best)
}

fn keeps_up(outcome: &Outcome, rate: f64, limit_ms: f64) -> bool {
    outcome.ack.p99_ms < limit_ms
        && outcome.acknowledged_per_second >= rate * REACHED_MIN
        && outcome.errors.is_empty()
        && outcome.lost == 0
}
