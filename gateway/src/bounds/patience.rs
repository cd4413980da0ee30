//! Refusing costs, too: a frame is read and answered, however little it may. A session that is answered with too many errors is read
//! more slowly, so that a flood waits in its own socket. It is written to as before.

use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::metrics::refused;

/// What one session is still forgiven.
#[derive(Debug)]
pub struct Patience {
    errors: DefaultDirectRateLimiter,
    rests_until: Mutex<Option<Instant>>,
}

impl Patience {
    /// As many errors a second are forgiven as requests are answered.
    pub fn new(errors: Quota) -> Self {
        Self {
            errors: RateLimiter::direct(errors),
            rests_until: Mutex::default(),
        }
    }

    /// One more error.
    pub fn tried(&self) {
        let Err(until) = self.errors.check() else {
            return;
        };
        let now = Instant::now();
        let until = now + until.wait_time_from(self.errors.clock().now());
        let before = self.rests_until.lock().replace(until);
        if before.is_none_or(|before| before <= now) {
            refused("errors");
        }
    }

    /// Nothing is read from the session before then.
    pub fn rests_until(&self) -> Option<Instant> {
        *self.rests_until.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn some_errors_are_forgiven_and_more_are_waited_for() {
        let one = NonZeroU32::MIN;
        let five = one.saturating_add(4);
        let patience = Patience::new(Quota::per_second(one).allow_burst(five));
        for _ in 0..5 {
            patience.tried();
        }
        assert_eq!(patience.rests_until(), None);
        patience.tried();
        assert!(patience.rests_until().is_some_and(|at| at > Instant::now()));
    }
}
