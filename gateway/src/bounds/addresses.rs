//! How fast one address may connect and log in: guessing tokens, and coming back in a loop, costs whoever does it and nobody else.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::{Clock as _, MonotonicClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::{Refusal, network};

/// An address may save up what it does not use for so long.
const BURST_SECONDS: u32 = 5;
/// Above so many addresses, and then at twice as many, those that have not come for a while are forgotten.
const SWEEP_FROM: usize = 16_384;

/// What is counted by address.
pub struct Addresses {
    reason: &'static str,
    what: &'static str,
    limiter: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, MonotonicClock>,
    sweep_at: AtomicUsize,
}

impl Addresses {
    /// So many logins a second of one address.
    pub fn logins(per_second: NonZeroU32) -> Self {
        let what = "too many logins from this address";
        Self::new("logins_per_address", what, per_second)
    }

    /// So many connections a second of one address, whatever becomes of them.
    pub fn connections(per_second: NonZeroU32) -> Self {
        let what = "too many connections from this address";
        Self::new("connections_per_address", what, per_second)
    }

    fn new(reason: &'static str, what: &'static str, per_second: NonZeroU32) -> Self {
        let seconds = NonZeroU32::new(BURST_SECONDS).unwrap_or(NonZeroU32::MIN);
        let burst = per_second.saturating_mul(seconds);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Self {
            reason,
            what,
            limiter: RateLimiter::hashmap_with_clock(quota, MonotonicClock),
            sweep_at: AtomicUsize::new(SWEEP_FROM),
        }
    }

    /// One more from this address.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.limiter.len() > self.sweep_at.load(Ordering::Relaxed) {
            self.limiter.retain_recent();
            let next = (self.limiter.len() * 2).max(SWEEP_FROM);
            self.sweep_at.store(next, Ordering::Relaxed);
        }
        let checked = self.limiter.check_key(&network(address));
        checked.map_err(|until| Refusal {
            reason: self.reason,
            what: self.what,
            retry_after: until.wait_time_from(MonotonicClock.now()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_own_limit_and_a_network_of_ipv6_has_one() {
        let logins = Addresses::logins(NonZeroU32::MIN);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..BURST_SECONDS {
            logins.check(address("192.0.2.1")).unwrap();
        }
        let refusal = logins.check(address("192.0.2.1")).unwrap_err();
        assert!(!refusal.retry_after.is_zero());
        assert!(
            logins.check(address("::ffff:192.0.2.1")).is_err(),
            "the same address in another form"
        );
        logins.check(address("192.0.2.2")).unwrap();
        for host in 1..=BURST_SECONDS {
            logins.check(address(&format!("2001:db8::{host}"))).unwrap();
        }
        assert!(logins.check(address("2001:db8::ff")).is_err());
        logins.check(address("2001:db8:0:1::1")).unwrap();
    }
}
