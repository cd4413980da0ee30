//! SIGTERM and SIGINT ask a process to stop gracefully; a second one stops it at once, or ends a gateway's waiting first. SIGHUP asks some to look at their
//! certificate files.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Calls `work` at each SIGHUP, which no longer ends the process.
pub fn on_hangup(work: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("listen for signals")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            work();
        }
    });
    Ok(())
}

/// Signals of this process from now on.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the system's default, which would kill the process.
    pub fn listen() -> anyhow::Result<Self> {
        let take = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
        })
    }

    /// Waits for a signal and returns its name. Cancel safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// From now on the next signal ends the process, whatever it is doing.
    pub fn force_on_next(mut self) {
        tokio::spawn(async move {
            let name = self.next().await;
            tracing::warn!(signal = name, "another signal: stopping at once");
            std::process::exit(i32::from(crate::exit::FAILED));
        });
    }
}
