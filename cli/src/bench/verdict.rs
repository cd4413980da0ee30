//! Whether the generator was the bottleneck: what it took of the machine, and how late its own tasks ran.

use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::latency::{Latency, micros};
use super::processes::{self, Reading};

/// How the generator did during a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Generator {
    /// Of the CPU time that the machine spent, whoever spent it.
    pub cpu_share: f64,
    /// Of the machine's CPU time, what nobody used.
    pub machine_idle: f64,
    /// How much later than asked the generator's own timers ran, p99.
    pub lag_p99_ms: f64,
    /// Why the figures say more about the generator than about the cluster; none if they do not.
    pub bottleneck: Option<String>,
}

const TICK: Duration = Duration::from_millis(10);
/// Timers run on whole milliseconds, and a busy machine adds a few; beyond this latencies are the generator's own.
const LAG_MAX_MS: f64 = 25.0;
const CPU_SHARE_MAX: f64 = 0.5;
const IDLE_MIN: f64 = 0.05;

/// Watches the generator from its own runtime, where its sessions run.
pub struct Watcher {
    lags: JoinHandle<()>,
    seen: std::sync::Arc<parking_lot::Mutex<Vec<u32>>>,
    machine: Option<(f64, f64)>,
}

impl Watcher {
    pub fn start() -> Self {
        let seen = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let seen_by_task = seen.clone();
        let lags = tokio::spawn(async move {
            loop {
                let due = Instant::now() + TICK;
                tokio::time::sleep_until(due).await;
                seen_by_task.lock().push(micros(due.elapsed()));
            }
        });
        Self {
            lags,
            seen,
            machine: processes::machine_cpu(),
        }
    }

    /// `before` and `after` are readings of all processes; the generator's are the last.
    pub fn stop(self, before: &[Option<Reading>], after: &[Option<Reading>]) -> Generator {
        self.lags.abort();
        let lag_p99_ms = Latency::of(self.seen.lock().drain(..)).p99_ms;
        let own = match (before.last(), after.last()) {
            (Some(Some(before)), Some(Some(after))) => after.cpu_seconds - before.cpu_seconds,
            _ => 0.0,
        };
        let (busy, idle) = match (self.machine, processes::machine_cpu()) {
            (Some(before), Some(after)) => (after.0 - before.0, after.1 - before.1),
            _ => (0.0, 0.0),
        };
        judge(own, busy, idle, lag_p99_ms)
    }
}

fn judge(own: f64, busy: f64, idle: f64, lag_p99_ms: f64) -> Generator {
    let share = |part: f64, whole: f64| {
        if whole > 0.0 {
            (part / whole).min(1.0)
        } else {
            0.0
        }
    };
    let (cpu_share, machine_idle) = (share(own, busy), share(idle, busy + idle));
    let bottleneck = if machine_idle < IDLE_MIN && cpu_share > CPU_SHARE_MAX {
        Some(format!(
            "no CPU is left, and the generator takes {:.0} % of it",
            cpu_share * 100.0
        ))
    } else if lag_p99_ms > LAG_MAX_MS {
        Some(format!(
            "the generator's own timers are {lag_p99_ms:.0} ms late (p99)"
        ))
    } else {
        None
    };
    Generator {
        cpu_share,
        machine_idle,
        lag_p99_ms,
        bottleneck,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_that_takes_most_of_a_full_machine_or_runs_late_is_named() {
        assert!(judge(12.0, 19.9, 0.1, 1.0).bottleneck.is_some());
        assert!(judge(5.0, 19.9, 0.1, 1.0).bottleneck.is_none());
        assert!(judge(12.0, 15.0, 5.0, 1.0).bottleneck.is_none());
        assert!(judge(1.0, 15.0, 5.0, 40.0).bottleneck.is_some());
        assert_eq!(judge(0.0, 0.0, 0.0, 0.0), Generator::default());
    }
}
