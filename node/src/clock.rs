//! The only place that reads the wall clock and draws randomness. A seam: a simulation replaces both.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall-clock time and randomness.
pub trait Environment: Send + Sync + 'static {
    /// Milliseconds since 1970 UTC.
    fn now_ms(&self) -> i64;

    /// 32 random bytes, good enough for secrets.
    fn random(&self) -> [u8; 32];

    /// A random id of 128 bits in hex.
    fn random_id(&self) -> String {
        hex::encode(self.random().get(..16).unwrap_or_default())
    }
}

/// The machine's own clock and random source.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    #[allow(clippy::disallowed_methods, reason = "the one place that may")]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        now_ms.saturating_add(ahead_ms())
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that may")]
    fn random(&self) -> [u8; 32] {
        rand::random()
    }
}

#[cfg(not(feature = "unsafe-test-switches"))]
fn ahead_ms() -> i64 {
    0
}

/// A clock that a test has set wrong.
#[cfg(feature = "unsafe-test-switches")]
fn ahead_ms() -> i64 {
    static AHEAD_MS: std::sync::LazyLock<i64> = std::sync::LazyLock::new(|| {
        let said = std::env::var("PARLANCE_TEST_CLOCK_AHEAD_MS").ok();
        said.and_then(|ms| ms.parse().ok()).unwrap_or(0)
    });
    *AHEAD_MS
}
