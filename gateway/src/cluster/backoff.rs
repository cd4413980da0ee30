//! Pauses between attempts: doubling, jittered. The only place of this crate that draws such randomness.

use std::time::Duration;

use rand::Rng as _;

/// Doubling pauses between a least and a most.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// The first pause is about `least`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { next: least, most }
    }

    /// The next pause: half of it fixed, half random.
    #[allow(
        clippy::disallowed_methods,
        reason = "gateways must not all try again together"
    )]
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.most);
        pause.mul_f64(rand::rng().random_range(0.5..1.0))
    }
}
