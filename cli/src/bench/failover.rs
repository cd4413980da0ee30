//! `parlance bench failover`: `kill -9` of each node in turn under load; the longest time without an acknowledgement
//! on any shard.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use parlance_proto::ids::{ConversationId, DirectId};
use parlance_proto::slot::Slot;
use serde::Serialize;

use super::cluster::OwnCluster;
use super::load::{self, Part, Plan, longest_gap};
use super::report;
use super::session::{Pace, Tally};
use super::target::Target;
use crate::args::bench::{FailoverArgs, TargetArgs};
use crate::commands::Session;
use crate::exit::not_possible;
use crate::output::{Output, say};

const WARM_UP: Duration = Duration::from_secs(3);
const NODES: u64 = 3;

/// One node killed.
#[derive(Debug, Serialize)]
struct Failover {
    killed_node: u64,
    /// The longest time without an acknowledgement on any shard around the kill.
    longest_gap_ms: f64,
    shard: u32,
    /// The same before the kill: what the load's own spacing makes of it.
    longest_gap_before_ms: f64,
    shards_under_load: usize,
    acknowledged: u64,
    errors: BTreeMap<String, u64>,
    undelivered: u64,
}

pub async fn run(session: &Session, args: FailoverArgs) -> anyhow::Result<()> {
    if args.rate == 0 || args.senders < 2 {
        return Err(not_possible(
            "at least 2 senders and a rate above 0 are needed",
        ));
    }
    let cluster = TargetArgs {
        nodes: Some(args.target.nodes.unwrap_or(NODES)),
        ..args.target.clone()
    };
    let mut target = Target::open(session, &cluster).await?;
    let mut own = target.own.take().context("start a cluster")?;
    let mut runs = Vec::new();
    for node_id in own.node_ids() {
        let plan = plan(&target, &args)?;
        let mut killed_at = Duration::ZERO;
        let (outcome, tallies) = load::run_with(&target, &plan, async |stamps| {
            tokio::time::sleep(args.pause).await;
            killed_at = stamps.since(0);
            own.kill_node(node_id).await?;
            tokio::time::sleep(args.pause).await;
            own.start_node(node_id)
        })
        .await?;
        let shards = by_shard(&target, &own, &plan, &tallies);
        let gap = |window| longest_gap(&shards, window).unwrap_or_default();
        let (shard, longest) = gap((killed_at, killed_at + args.pause));
        let (_, before) = gap((killed_at.saturating_sub(args.pause), killed_at));
        say(format!(
            "node {node_id} killed: longest gap {:.0} ms, on shard {shard}",
            longest.as_secs_f64() * 1000.0
        ));
        runs.push(Failover {
            killed_node: node_id,
            longest_gap_ms: longest.as_secs_f64() * 1000.0,
            shard,
            longest_gap_before_ms: before.as_secs_f64() * 1000.0,
            shards_under_load: shards.len(),
            acknowledged: outcome.ack.count,
            errors: outcome.errors,
            undelivered: outcome.undelivered,
        });
        own.wait_healthy().await?;
    }
    target.own = Some(own);
    report::print(
        session,
        "failover",
        &target,
        target.summary(&cluster),
        &runs,
        table,
    )?;
    target.close().await
}

fn plan(target: &Target, args: &FailoverArgs) -> anyhow::Result<Plan> {
    let users = (0..args.senders).map(|_| target.new_user());
    let users = users.collect::<anyhow::Result<Vec<_>>>()?;
    let every = Duration::from_secs_f64(args.senders as f64 / f64::from(args.rate));
    let sessions = users.iter().enumerate().map(|(index, user)| Part {
        user: user.clone(),
        to: users[(index + 1) % users.len()].clone(),
        pace: Pace::Open {
            first: every.mul_f64(index as f64 / users.len() as f64),
            every,
        },
    });
    Ok(Plan {
        name: "failover".to_owned(),
        sessions: sessions.collect(),
        payload: 256,
        warm_up: WARM_UP,
        // Kill, restart, and some time together again.
        length: args.pause * 3,
        copies: 1,
    })
}

/// When acknowledgements came, by the shard of the conversation; shards that nobody sends to are not in it.
fn by_shard(
    target: &Target,
    cluster: &OwnCluster,
    plan: &Plan,
    tallies: &[Tally],
) -> BTreeMap<u32, Vec<u32>> {
    let mut shards: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (part, tally) in plan.sessions.iter().zip(tallies) {
        let conversation = DirectId::between(&part.user, &part.to).map(ConversationId::Direct);
        let slot = conversation.map(|id| Slot::of_conversation(target.app(), &id));
        let Some(shard) = slot.ok().and_then(|slot| cluster.owner(slot)) else {
            continue;
        };
        shards
            .entry(shard)
            .or_default()
            .extend(tally.acks.iter().map(|(_, at)| *at));
    }
    shards
}

fn table(output: &Output, runs: &[Failover]) -> String {
    let mut table = output.table(&[
        "KILLED",
        "LONGEST GAP",
        "ON SHARD",
        "BEFORE THE KILL",
        "SHARDS",
        "ACKS",
        "ERRORS",
        "LOST",
    ]);
    for run in runs {
        table.add_row([
            format!("node {}", run.killed_node),
            format!("{:.0} ms", run.longest_gap_ms),
            run.shard.to_string(),
            format!("{:.0} ms", run.longest_gap_before_ms),
            run.shards_under_load.to_string(),
            run.acknowledged.to_string(),
            run.errors.values().sum::<u64>().to_string(),
            run.undelivered.to_string(),
        ]);
    }
    table.to_string()
}
