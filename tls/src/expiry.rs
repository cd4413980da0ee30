//! When certificates end: a metric, and a warning once a day in the last thirty days.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::{Duration, Instant};

use crate::metrics;

const DAY_S: i64 = 24 * 3600;
const WARN_BEFORE_S: i64 = 30 * DAY_S;
const WARN_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What ends.
pub trait Expires {
    /// The name of each certificate for logs and metrics, and the Unix time in seconds at which it ends.
    fn expires(&self) -> Vec<(String, i64)>;
}

/// Says when certificates end.
#[derive(Default)]
pub(crate) struct Warner {
    warned: Option<Instant>,
}

impl Warner {
    /// There are new certificates: what is said of them is said at once.
    pub(crate) fn renewed(&mut self, certificates: &dyn Expires) {
        self.warned = None;
        for (name, at) in certificates.expires() {
            metrics::expires(&name, at);
        }
    }

    /// Warns if it is time to.
    pub(crate) fn look(&mut self, certificates: &dyn Expires) {
        if self.warned.is_some_and(|at| at.elapsed() < WARN_INTERVAL) {
            return;
        }
        self.warned = Some(Instant::now());
        let now = unix_seconds();
        for (name, at) in certificates.expires() {
            match left(at, now) {
                Left::Long => {}
                Left::Days(days) => {
                    tracing::warn!(
                        certificate = name,
                        days,
                        "a certificate ends soon: renew it"
                    );
                }
                Left::Nothing => {
                    tracing::error!(certificate = name, "a certificate has ended: renew it");
                }
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Left {
    Long,
    Days(i64),
    Nothing,
}

fn left(expires_s: i64, now_s: i64) -> Left {
    match expires_s - now_s {
        ..=0 => Left::Nothing,
        left if left <= WARN_BEFORE_S => Left::Days(left / DAY_S),
        _ => Left::Long,
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a certificate is good or not by the machine's clock, as in the handshake itself"
)]
fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_begins_thirty_days_before() {
        let now = 1_000 * DAY_S;
        assert_eq!(left(now + 30 * DAY_S + 1, now), Left::Long);
        assert_eq!(left(now + 30 * DAY_S, now), Left::Days(30));
        assert_eq!(left(now + DAY_S - 1, now), Left::Days(0));
        assert_eq!(left(now, now), Left::Nothing);
        assert_eq!(left(now - DAY_S, now), Left::Nothing);
    }
}
