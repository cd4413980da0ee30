//! Logs and metrics of this process: logs to stderr, as text or JSON; metrics to a recorder that `ops` renders.

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// The program.
const BUILD_INFO: &str = "parlance_build_info";
/// What it was built from, where the build says so in `PARLANCE_COMMIT`.
const COMMIT: &str = match option_env!("PARLANCE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Seconds; from the fsync of a fast disk to a request's deadline.
const LATENCY_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Counts and bytes, by powers of four.
const SIZE_BUCKETS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
];

/// Starts logging; once in a process.
pub fn init_logs(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    use std::io::IsTerminal;
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("parse log filter {filter:?}"))?;
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    }
    .map_err(|e| anyhow!("start logging: {e}"))
}

/// Starts recording metrics; once in a process.
pub fn init_metrics() -> anyhow::Result<PrometheusHandle> {
    use metrics_exporter_prometheus::Matcher;
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCY_BUCKETS)
        .context("set the buckets of latencies")?
        .set_buckets(SIZE_BUCKETS)
        .context("set the buckets of sizes")?
        .install_recorder()
        .context("start recording metrics")?;
    metrics_process::Collector::default().describe();
    metrics::describe_gauge!(
        BUILD_INFO,
        "always 1: the program's version and the commit that it was built from"
    );
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "commit" => COMMIT).set(1);
    Ok(recorder)
}

/// A panic in any task of a serving process stops the process: half a process must not go on serving.
/// The panic is logged first, so that it is seen where the logs go.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let location = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let reason = panic
            .payload()
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.payload().downcast_ref::<String>().cloned())
            .unwrap_or_default();
        tracing::error!(location, reason, "panic: this is a bug, the process stops");
        report(panic);
        std::process::abort();
    }));
}
