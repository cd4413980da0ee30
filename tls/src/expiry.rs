//! When certificates end: a metric, and a warning once a day when that is soon.

use std::time::{SystemTime, UNIX_EPOCH};

use parlance_proto::tls::Standing;
use tokio::time::{Duration, Instant};

use crate::metrics;

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
            match Standing::at(now, at) {
                Standing::Good => {}
                Standing::EndsSoon(days) => {
                    tracing::warn!(
                        certificate = name,
                        days,
                        "a certificate ends soon: renew it"
                    );
                }
                Standing::Ended => {
                    tracing::error!(certificate = name, "a certificate has ended: renew it");
                }
            }
        }
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
