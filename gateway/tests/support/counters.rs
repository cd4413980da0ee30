//! What the gateways of this test program have counted, all together.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap())
}

/// From here on everything is counted.
pub fn install() {
    recorder();
}

/// What was refused for this reason.
pub fn refusals(reason: &str) -> u64 {
    count("parlance_gateway_refusals_total", reason)
}

/// Connections that were closed for this reason.
pub fn closed(reason: &str) -> u64 {
    count("parlance_gateway_closed_total", reason)
}

fn count(metric: &str, reason: &str) -> u64 {
    let name = format!("{metric}{{reason=\"{reason}\"}} ");
    let text = recorder().render();
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}
