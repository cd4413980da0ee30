//! Buckets of what is allowed a second, and those that several sessions share.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::DefaultDirectRateLimiter;
use governor::clock::Clock as _;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;

/// What is not used can be saved up for so long: a client that comes back online sends what has gathered.
const BURST_SECONDS: u32 = 5;
/// Above so many users, and then at twice as many, those that have left are forgotten.
const SWEEP_FROM: usize = 1024;

/// A limiter whose rate may change while it is used.
#[derive(Debug)]
pub(super) struct Bucket(Mutex<Rate>);

#[derive(Debug)]
struct Rate {
    per_second: NonZeroU32,
    limiter: DefaultDirectRateLimiter,
    used: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        Self(Mutex::new(Rate {
            per_second,
            limiter: limiter(per_second),
            used: None,
        }))
    }

    pub(super) fn check(&self, per_second: NonZeroU32) -> Result<(), Duration> {
        let mut rate = self.0.lock();
        if rate.per_second != per_second {
            (rate.per_second, rate.limiter) = (per_second, limiter(per_second));
        }
        rate.used = Some(Instant::now());
        let limiter = &rate.limiter;
        limiter
            .check()
            .map_err(|until| until.wait_time_from(limiter.clock().now()))
    }

    /// Nothing of it is used: a new one is the same.
    fn is_full(&self) -> bool {
        let used = self.0.lock().used;
        used.is_none_or(|at| at.elapsed() > Duration::from_secs(BURST_SECONDS.into()))
    }
}

/// So much a second, and five seconds' worth at once.
pub(super) fn quota(per_second: NonZeroU32) -> Quota {
    let seconds = NonZeroU32::new(BURST_SECONDS).unwrap_or(NonZeroU32::MIN);
    let burst = per_second.saturating_mul(seconds);
    Quota::per_second(per_second).allow_burst(burst)
}

fn limiter(per_second: NonZeroU32) -> DefaultDirectRateLimiter {
    RateLimiter::direct(quota(per_second))
}

/// Buckets that sessions share. They stay until they are full again, so that nobody gets a new one by coming anew.
#[derive(Debug)]
pub(super) struct Shared<K> {
    buckets: HashMap<K, Arc<Bucket>>,
    sweep_at: usize,
}

impl<K: Hash + Eq> Shared<K> {
    pub(super) fn new() -> Self {
        Self {
            buckets: HashMap::new(),
            sweep_at: SWEEP_FROM,
        }
    }

    pub(super) fn of(&mut self, key: K, per_second: NonZeroU32) -> Arc<Bucket> {
        if self.buckets.len() >= self.sweep_at {
            let stays = |bucket: &Arc<Bucket>| Arc::strong_count(bucket) > 1 || !bucket.is_full();
            self.buckets.retain(|_, bucket| stays(bucket));
            self.sweep_at = (self.buckets.len() * 2).max(SWEEP_FROM);
        }
        let bucket = || Arc::new(Bucket::new(per_second));
        self.buckets.entry(key).or_insert_with(bucket).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_that_left_are_forgotten() {
        let mut shared = Shared::new();
        for user in 0..10 * SWEEP_FROM {
            drop(shared.of(user, NonZeroU32::MIN));
        }
        assert!(shared.buckets.len() <= SWEEP_FROM);
    }
}
