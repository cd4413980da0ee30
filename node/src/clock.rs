//! The only place that reads the wall clock and draws randomness. A seam: a simulation replaces both. And moments, for what must
//! not be believed for longer because the machine has slept.

use std::ops::Add;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

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

/// By a clock that goes on while the machine sleeps: others go on meanwhile too. That of tokio and of the standard library stands
/// still then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

/// On other systems than Linux this one goes on.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self(Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default())
    }

    /// How long it is ago.
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0 + later)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const ASLEEP: Duration = Duration::from_secs(86_400);
    /// Says to a process that it is where the machine has slept.
    const HAS_SLEPT: &str = "PARLANCE_TEST_HAS_SLEPT";

    /// As on a machine that has slept for a day: a time namespace has a boot clock of its own. Root may make one.
    fn after_sleep() -> Command {
        let mut command = Command::new("unshare");
        let ahead = ASLEEP.as_secs().to_string();
        command.args(["--time", "--boottime", &ahead, "--"]);
        command
    }

    #[test]
    fn moments_go_on_while_the_machine_sleeps() {
        if std::env::var_os(HAS_SLEPT).is_some() {
            let awake = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap();
            assert!(Moment::now().0 >= awake + ASLEEP);
            return;
        }
        let may = after_sleep().arg("true").output();
        if !may.is_ok_and(|may| may.status.success()) {
            println!("skipped: no time namespace can be made here");
            return;
        }
        let again = after_sleep()
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "clock::tests::moments_go_on_while_the_machine_sleeps",
            ])
            .env(HAS_SLEPT, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(
            again.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }
}
