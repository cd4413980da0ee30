//! P5: how long no message of a shard was acknowledged although some were on their way. A figure, not a verdict: each
//! test says what it allows.

use std::collections::BTreeMap;

use parlance_proto::ids::{AppId, ConversationId};
use parlance_proto::slot::Slot;
use serde::{Deserialize, Serialize};

use super::index::Index;
use crate::history::{Closing, Run, What};

/// The waits of one run, in ms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gaps {
    /// The longest time, over all shards, in which a message waited and the shard acknowledged none.
    pub longest_ms: f64,
    /// The shard that it was.
    pub shard: Option<u32>,
    /// When it began, since the start of the run.
    pub began_ms: f64,
    /// The same for each shard that was written to.
    pub by_shard_ms: BTreeMap<u32, f64>,
    /// The longest time over all shards, of those that begin while each fault is on.
    pub by_fault_ms: BTreeMap<String, f64>,
    /// From the first attempt to the acknowledgement.
    pub ack_p50_ms: f64,
    pub ack_p99_ms: f64,
    pub ack_max_ms: f64,
}

/// Measures a run.
pub fn gaps(run: &Run) -> Gaps {
    let index = Index::of(run);
    let closing = &run.closing;
    let mut shards = BTreeMap::<u32, Vec<(u64, u64)>>::new();
    let mut latencies = Vec::new();
    for (message, sent) in &index.sent {
        let Some(ack) = sent.acks.first() else {
            continue;
        };
        let shard = owner(closing, &message.conversation).unwrap_or_default();
        shards
            .entry(shard)
            .or_default()
            .push((sent.first_us, ack.at_us));
        latencies.push(ack.at_us.saturating_sub(sent.first_us));
    }
    latencies.sort_unstable();
    let mut gaps = Gaps {
        ack_p50_ms: percentile(&latencies, 50),
        ack_p99_ms: percentile(&latencies, 99),
        ack_max_ms: percentile(&latencies, 100),
        ..Gaps::default()
    };
    let faults = faults(run);
    for (shard, mut waits) in shards {
        let stretches = stretches(&mut waits);
        for (fault, from, to) in &faults {
            let during = stretches
                .iter()
                .filter(|(began, _)| (from..to).contains(&began));
            let longest = during.map(|(_, length)| *length).max().unwrap_or_default();
            let known = gaps.by_fault_ms.entry(fault.clone()).or_default();
            *known = known.max(longest as f64 / 1e3);
        }
        let (began_us, length_us) = longest(&stretches);
        let length_ms = length_us as f64 / 1e3;
        gaps.by_shard_ms.insert(shard, length_ms);
        if length_ms > gaps.longest_ms {
            gaps.longest_ms = length_ms;
            gaps.shard = Some(shard);
            gaps.began_ms = began_us as f64 / 1e3;
        }
    }
    gaps
}

/// The shard that has a conversation at the end; what it had before a split counts as its own.
fn owner(closing: &Closing, conversation: &str) -> Option<u32> {
    let app = AppId::new(&closing.app_id).ok()?;
    let conversation = ConversationId::parse(conversation).ok()?;
    let slot = u32::from(Slot::of_conversation(&app, &conversation).number());
    let has = |first, last| (first..=last).contains(&slot);
    let mut shards = closing.shards.iter();
    Some(shards.find(|s| has(s.first_slot, s.last_slot))?.shard)
}

/// Name, begin and end of each.
fn faults(run: &Run) -> Vec<(String, u64, u64)> {
    let mut faults = Vec::<(String, u64, u64)>::new();
    for entry in &run.entries {
        match &entry.what {
            What::Fault { name, over: false } => {
                faults.push((name.clone(), entry.at_us, u64::MAX));
            }
            What::Fault { over: true, .. } => {
                if let Some((.., end)) = faults.last_mut() {
                    *end = entry.at_us;
                }
            }
            _ => {}
        }
    }
    faults
}

/// The stretches that begin at an acknowledgement or at an attempt, hold no acknowledgement, and in which some message waits all
/// the time: begin and length. Waits are (attempt, acknowledgement).
fn stretches(waits: &mut [(u64, u64)]) -> Vec<(u64, u64)> {
    waits.sort_unstable_by_key(|(_, acknowledged)| *acknowledged);
    // The earliest attempt among this and all later acknowledgements: since then somebody has been waiting.
    let mut earliest = vec![u64::MAX; waits.len() + 1];
    for (i, (attempted, _)) in waits.iter().enumerate().rev() {
        earliest[i] = earliest[i + 1].min(*attempted);
    }
    let mut previous = 0;
    let mut all = Vec::with_capacity(waits.len());
    for (i, (_, acknowledged)) in waits.iter().enumerate() {
        let began = earliest[i].max(previous);
        all.push((began, acknowledged.saturating_sub(began)));
        previous = *acknowledged;
    }
    all
}

fn longest(stretches: &[(u64, u64)]) -> (u64, u64) {
    let longest = stretches.iter().max_by_key(|(_, length)| *length);
    longest.copied().unwrap_or_default()
}

fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(0.0, |us| *us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest_gap(waits: &mut [(u64, u64)]) -> (u64, u64) {
        longest(&stretches(waits))
    }

    #[test]
    fn a_gap_needs_somebody_who_waits() {
        // Quiet from 20 to 900: nobody waited. The message of 900 was answered at 1000.
        assert_eq!(
            longest_gap(&mut [(0, 10), (5, 20), (900, 1000)]),
            (900, 100)
        );
        // Somebody waits from 15 on, others are answered meanwhile; the silence is from 30 to 500.
        assert_eq!(longest_gap(&mut [(0, 10), (15, 500), (20, 30)]), (30, 470));
        assert_eq!(longest_gap(&mut []), (0, 0));
    }

    #[test]
    fn percentiles_are_of_the_sorted_list() {
        let all: Vec<u64> = (1..=100).map(|ms| ms * 1000).collect();
        assert_eq!(
            (
                percentile(&all, 50),
                percentile(&all, 99),
                percentile(&all, 100)
            ),
            (50.0, 99.0, 100.0)
        );
    }
}
