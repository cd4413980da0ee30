//! The wall clock, read in one place; everything else measures with tokio's monotonic one.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970 UTC.
#[allow(clippy::disallowed_methods, reason = "the one place that may")]
pub fn unix_seconds() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
