//! What a run comes to: figures and faults, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::check::{Gaps, Violation};
use crate::faults::{Strikes, Turns};
use crate::history::{Run, Way, What};

/// Counts of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub messages: u64,
    pub attempts: u64,
    pub acknowledged: u64,
    /// Attempts without a final answer; their messages were sent again.
    pub doubts: u64,
    pub doubts_by_reason: BTreeMap<String, u64>,
    pub refused: u64,
    pub duplicates_answered: u64,
    pub conflicts_probed: u64,
    pub received: u64,
    pub received_by_push: u64,
    /// Fetched past a gap.
    pub received_by_gap: u64,
    pub resyncs: u64,
    pub heads_read: u64,
    /// Pages that were read through gateways and at nodes directly.
    pub pages_read: u64,
    pub lists_read: u64,
    pub cursors_moved: u64,
    /// Events in conversations that were quiet otherwise, told in the middle of faults.
    pub whispers: u64,
}

/// One run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub seed: u64,
    pub faults: Vec<String>,
    pub seconds: f64,
    pub counts: Counts,
    pub gaps: Gaps,
    /// The most memory that each process had.
    pub memory_mib: BTreeMap<String, u64>,
    /// How often each fault struck, and on what.
    pub strikes: Vec<(String, Strikes)>,
    /// Of a swarm's moves.
    pub turns: Turns,
    pub violations: Vec<Violation>,
    /// Processes that ended by a signal that nobody had sent.
    pub crashes: Vec<String>,
    /// Panics and ERROR lines that were not expected.
    pub log_findings: Vec<String>,
    /// The run itself could not go on: a process would not start, the cluster did not heal.
    pub trouble: Option<String>,
    /// Where a failed run is kept.
    pub kept: Option<PathBuf>,
    /// The command that repeats it.
    pub command: String,
}

impl Report {
    /// Nothing was broken.
    pub fn passed(&self) -> bool {
        let broken = !self.violations.is_empty() || !self.crashes.is_empty();
        !broken && self.log_findings.is_empty() && self.trouble.is_none()
    }

    fn show_memory_and_strikes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory_mib.iter();
        let memory: Vec<String> = memory.map(|(name, mib)| format!("{name} {mib}")).collect();
        writeln!(f, "  memory at most, MiB: {}", memory.join(", "))?;
        for (fault, strikes) in &self.strikes {
            let silent = self.gaps.by_fault_ms.get(fault).copied();
            let silent = silent.unwrap_or_default();
            writeln!(
                f,
                "  struck by {fault}: {strikes}; longest gap {silent:.0} ms"
            )?;
        }
        write!(f, "{}", self.turns)
    }
}

impl Counts {
    /// Counts a history.
    pub fn of(run: &Run) -> Self {
        let mut counts = Self::default();
        let mut messages = std::collections::HashSet::new();
        for entry in &run.entries {
            match &entry.what {
                What::Attempt { message, .. } => {
                    counts.attempts += 1;
                    messages.insert(message);
                }
                What::Acknowledged {
                    message, duplicate, ..
                } => {
                    counts.acknowledged += 1;
                    counts.whispers += u64::from(message.id.starts_with("whisper-"));
                    counts.duplicates_answered += u64::from(*duplicate);
                }
                What::Refused { .. } => counts.refused += 1,
                What::Doubt { reason, .. } => {
                    counts.doubts += 1;
                    let reason = reason.chars().take(60).collect::<String>();
                    *counts.doubts_by_reason.entry(reason).or_default() += 1;
                }
                What::ConflictProbe { .. } => counts.conflicts_probed += 1,
                What::Received { way, .. } => {
                    counts.received += 1;
                    counts.received_by_push += u64::from(*way == Way::Push);
                    counts.received_by_gap += u64::from(*way == Way::Gap);
                }
                What::Marked { .. } => counts.cursors_moved += 1,
                What::Head { .. } => counts.heads_read += 1,
                What::Page { .. } => counts.pages_read += 1,
                What::Listed { .. } => counts.lists_read += 1,
                What::Resync { .. } => counts.resyncs += 1,
                What::Pushed { .. }
                | What::Online { .. }
                | What::Offline { .. }
                | What::Fault { .. }
                | What::Note { .. } => {}
            }
        }
        counts.messages = messages.len() as u64;
        counts
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counts, gaps) = (&self.counts, &self.gaps);
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        writeln!(
            f,
            "{verdict}: {} with seed {} in {:.1} s",
            self.faults.join(", "),
            self.seed,
            self.seconds
        )?;
        writeln!(
            f,
            "  {} messages, {} attempts, {} acknowledged ({} as duplicates), {} doubts, {} refused",
            counts.messages,
            counts.attempts,
            counts.acknowledged,
            counts.duplicates_answered,
            counts.doubts,
            counts.refused
        )?;
        writeln!(
            f,
            "  {} received ({} by push, {} past gaps), {} whispers, {} resyncs, {} heads, {} pages and {} lists read, {} cursors \
             moved, {} conflicts probed",
            counts.received,
            counts.received_by_push,
            counts.received_by_gap,
            counts.whispers,
            counts.resyncs,
            counts.heads_read,
            counts.pages_read,
            counts.lists_read,
            counts.cursors_moved,
            counts.conflicts_probed
        )?;
        writeln!(
            f,
            "  acknowledged after p50 {:.1} ms, p99 {:.1} ms, at most {:.0} ms; longest gap of a shard {:.0} ms (shard {:?}, at {:.1} s)",
            gaps.ack_p50_ms,
            gaps.ack_p99_ms,
            gaps.ack_max_ms,
            gaps.longest_ms,
            gaps.shard,
            gaps.began_ms / 1e3
        )?;
        self.show_memory_and_strikes(f)?;
        for (reason, count) in &counts.doubts_by_reason {
            writeln!(f, "  doubt × {count}: {reason}")?;
        }
        for violation in &self.violations {
            writeln!(f, "  BROKEN {violation}")?;
        }
        for crash in &self.crashes {
            writeln!(f, "  CRASH {crash}")?;
        }
        for line in self.log_findings.iter().take(20) {
            writeln!(f, "  LOG {line}")?;
        }
        if let Some(trouble) = &self.trouble {
            writeln!(f, "  TROUBLE {trouble}")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(
                f,
                "  kept in {}; checked again by: parlance-tests check {}",
                kept.display(),
                kept.display()
            )?;
            writeln!(f, "  repeated by: {}", self.command)?;
        }
        Ok(())
    }
}
