//! The load generator, and what it measures that must not grow unnoticed. Never a time: machines differ.

use anyhow::{Context, Result, ensure};
use parlance_tests::cli::Cli;
use serde_json::Value;

/// What an idle logged-in WebSocket may take of its gateway, in default settings.
const CONNECTION_BYTES_MAX: f64 = 8192.0;

/// The report of `parlance bench` with these arguments.
async fn bench(arguments: &str) -> Result<Value> {
    let home = tempfile::tempdir()?;
    let line = format!("bench {arguments} --output json");
    let arguments: Vec<&str> = line.split(' ').collect();
    Cli::new(home.path())?.run(&arguments).await?.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_websocket_takes_no_more_than_8_kib() -> Result<()> {
    let said = bench("connections --nodes 1 --gateways 1 --count 10000").await?;
    let idle = &said["runs"][0];
    let bytes = idle["gateway_bytes_per_connection"].as_f64();
    ensure!(idle["alive"] == 10000, "{idle}");
    let bytes = bytes.context("no figure")?;
    ensure!(bytes < CONNECTION_BYTES_MAX, "{idle}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_measured_run_loses_nothing_and_says_what_it_measured() -> Result<()> {
    let said = bench(
        "send --nodes 3 --gateways 2 --senders 16 --length 1s --warm-up 500ms --p99-limit 0ms",
    )
    .await?;
    let run = &said["runs"][0];
    ensure!(run["undelivered"] == 0 && run["lost"] == 0, "{said}");
    ensure!(run["errors"] == serde_json::json!({}), "{said}");
    for figure in [
        &run["acknowledged_per_second"],
        &run["ack"]["p50_ms"],
        &run["ack"]["p99_ms"],
        &run["delivery"]["p99_ms"],
        &said["fsync"]["p50_ms"],
    ] {
        ensure!(figure.as_f64().is_some_and(|figure| figure > 0.0), "{said}");
    }
    Ok(())
}
