//! Whoever watches over a cluster sees what is wrong with it: by `cluster check`, readiness, metrics, dashboards and alerts.

#![allow(clippy::panic, reason = "a test may fail")]

mod check;
mod disk;
mod files;
mod gauges;
mod promql;

use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
