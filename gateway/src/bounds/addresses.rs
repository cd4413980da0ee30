//! How fast one address may connect and log in: guessing tokens, and coming back in a loop, costs whoever does it and nobody else.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::{Clock as _, MonotonicClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parlance_tls::Seldom;

use super::{Refusal, network};

/// An address may save up what it does not use for so long.
const BURST_SECONDS: u32 = 5;
/// Above so many addresses, and then at twice as many, those that have not come for a while are forgotten.
const SWEEP_FROM: usize = 16_384;

/// What is counted by address.
pub struct Addresses {
    reason: &'static str,
    what: &'static str,
    per_second: NonZeroU32,
    limiter: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, MonotonicClock>,
    sweep_at: AtomicUsize,
    told: Seldom,
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
            per_second,
            limiter: RateLimiter::hashmap_with_clock(quota, MonotonicClock),
            sweep_at: AtomicUsize::new(SWEEP_FROM),
            told: Seldom::new("addresses at their limit"),
        }
    }

    /// One more from this address.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.limiter.len() > self.sweep_at.load(Ordering::Relaxed) {
            self.limiter.retain_recent();
            let next = (self.limiter.len() * 2).max(SWEEP_FROM);
            self.sweep_at.store(next, Ordering::Relaxed);
        }
        let network = network(address);
        self.limiter.check_key(&network).map_err(|until| {
            self.tell(network);
            Refusal {
                reason: self.reason,
                what: self.what,
                retry_after: until.wait_time_from(MonotonicClock.now()),
            }
        })
    }

    /// Behind a load balancer everybody is cut off by it: that must not have to be found out.
    fn tell(&self, network: IpAddr) {
        if self.told.tells(&network.to_string()) {
            tracing::warn!(
                address = %network,
                setting = %format_args!("limits.{}", self.reason),
                per_second = self.per_second,
                "an address is at its limit, and the rest of it is refused: if it is a load balancer, let it speak the PROXY protocol \
                 (version 2) and name it in listener.proxies; if many clients share it, raise the limit"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_testkit::log_lines::LogLines;

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

    #[tokio::test]
    async fn an_address_at_its_limit_is_told_once_in_a_while_with_the_remedy() {
        let lines = LogLines::default();
        let _log = lines.install();
        let connections = Addresses::connections(NonZeroU32::MIN);
        let balancer = "192.0.2.1".parse().unwrap();
        let refused = (0..50).filter(|_| connections.check(balancer).is_err());
        assert!(refused.count() > 2);
        let told = lines.with("192.0.2.1");
        assert_eq!(told.len(), 1, "{told:?}");
        for word in [
            "limits.connections_per_address",
            "listener.proxies",
            "PROXY protocol",
        ] {
            assert!(told[0].contains(word), "{told:?}");
        }
    }
}
