//! P6: no input makes a process fall over, nobody reads or writes what is not theirs, and whoever misbehaves is the
//! only one who notices.

mod frames;
mod identity;
mod raw;
mod requests;
mod slow;
mod wire;

use std::time::Duration;

use anyhow::Result;
use parlance_tests::cluster::ClusterSpec;
use parlance_tests::logs::Allowed;
use parlance_tests::story::tell;

const SOON: Duration = Duration::from_secs(10);
const LOGIN_TIMEOUT_MS: i64 = 1500;
const IDLE_TIMEOUT_MS: i64 = 8000;

/// A gateway with short patience and little memory for slow readers.
fn strict() -> ClusterSpec {
    let limits = format!(
        "[limits]\nlogin_timeout_ms = {LOGIN_TIMEOUT_MS}\nidle_timeout_ms = {IDLE_TIMEOUT_MS}\nupgrade_timeout_ms = {LOGIN_TIMEOUT_MS}\noutbound_bytes_max = 262144\n"
    );
    ClusterSpec {
        shards: 4,
        gateway_settings: toml::from_str(&limits).unwrap_or_default(),
        ..ClusterSpec::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_and_bad_requests_get_their_error_or_close_code() -> Result<()> {
    tell(strict(), Allowed::default(), async |cluster| {
        frames::bad_frames(cluster).await?;
        frames::strange_versions(cluster).await?;
        requests::bad_requests(cluster).await?;
        requests::others_conversations(cluster).await?;
        wire::bad_upgrades(cluster).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens_and_bad_certificates_are_turned_away() -> Result<()> {
    tell(strict(), Allowed::default(), async |cluster| {
        identity::bad_tokens(cluster).await?;
        identity::bad_certificates(cluster).await?;
        wire::noise_on_every_port(cluster).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_are_cut_off_and_slow_ones_are_told_to_fetch() -> Result<()> {
    tell(strict(), Allowed::default(), async |cluster| {
        slow::silent_sockets(cluster).await?;
        slow::slow_reader(cluster).await
    })
    .await
}
