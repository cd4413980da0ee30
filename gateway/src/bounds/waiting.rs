//! Connections that have not logged in: a small pool of their own, so that sockets that say nothing never take the places
//! of users. When it is full, the address that has most places gives one up, the one that has waited longest: who opens
//! many sockets throws out their own, and a slow phone elsewhere has its time to log in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::network;
use crate::metrics::refused;

/// The pool.
#[derive(Debug)]
pub struct Waiting {
    max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    count: usize,
    /// The places of each network, in the order in which they came; never empty.
    networks: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    /// The networks by how many places they have, then by how long the first of them has waited: the last gives one up.
    ranks: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
}

/// A place in the pool; free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    pool: Arc<Waiting>,
    network: IpAddr,
    number: u64,
    evicted: CancellationToken,
    /// When the connection came.
    pub since: Instant,
}

impl Waiting {
    /// A pool of `max` places.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            inner: Mutex::default(),
        })
    }

    /// A place for one more connection, which came from this address at this time.
    pub fn enter(self: &Arc<Self>, address: IpAddr, since: Instant) -> Place {
        let (network, evicted) = (network(address), CancellationToken::new());
        let mut inner = self.inner.lock();
        inner.last += 1;
        let number = inner.last;
        inner.change(network, |places| places.insert(number, evicted.clone()));
        let longest = if inner.count > self.max {
            inner.give_up()
        } else {
            None
        };
        drop(inner);
        if let Some(longest) = longest {
            refused("connections_waiting");
            longest.cancel();
        }
        Place {
            pool: self.clone(),
            network,
            number,
            evicted,
            since,
        }
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.inner.lock().count
    }
}

impl Inner {
    fn give_up(&mut self) -> Option<CancellationToken> {
        let &(_, Reverse(number), network) = self.ranks.last()?;
        self.change(network, |places| places.remove(&number))
    }

    /// Changes the places of a network, and what is counted of them.
    fn change<T>(
        &mut self,
        network: IpAddr,
        change: impl FnOnce(&mut BTreeMap<u64, CancellationToken>) -> T,
    ) -> T {
        let places = self.networks.entry(network).or_default();
        self.count -= places.len();
        if let Some(rank) = rank(network, places) {
            self.ranks.remove(&rank);
        }
        let changed = change(places);
        self.count += places.len();
        match rank(network, places) {
            Some(rank) => drop(self.ranks.insert(rank)),
            None => drop(self.networks.remove(&network)),
        }
        changed
    }
}

fn rank(
    network: IpAddr,
    places: &BTreeMap<u64, CancellationToken>,
) -> Option<(usize, Reverse<u64>, IpAddr)> {
    let (&first, _) = places.first_key_value()?;
    Some((places.len(), Reverse(first), network))
}

impl Place {
    /// Resolves when the connection has to give way to another.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.pool.inner.lock();
        inner.change(self.network, |places| places.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(pool: &Arc<Waiting>, address: &str) -> Place {
        pool.enter(address.parse().unwrap(), Instant::now())
    }

    #[tokio::test]
    async fn the_longest_waiting_gives_way_and_who_left_keeps_nobody_out() {
        let pool = Waiting::new(2);
        let (first, second) = (enter(&pool, "192.0.2.1"), enter(&pool, "192.0.2.2"));
        drop(first);
        let third = enter(&pool, "192.0.2.3");
        assert!(!second.evicted.is_cancelled());
        let fourth = enter(&pool, "192.0.2.4");
        second.evicted().await;
        assert!(!third.evicted.is_cancelled() && !fourth.evicted.is_cancelled());
        drop((second, third, fourth));
        assert_eq!(pool.count(), 0);
        let inner = pool.inner.lock();
        assert!(inner.networks.is_empty() && inner.ranks.is_empty());
    }

    #[tokio::test]
    async fn who_opens_many_throws_out_their_own() {
        let pool = Waiting::new(4);
        let phone = enter(&pool, "192.0.2.1");
        let mut flood = Vec::new();
        // Two networks: one of IPv6 is one, however many addresses of it are used.
        for number in 0..100 {
            flood.push(enter(&pool, "192.0.2.9"));
            flood.push(enter(&pool, &format!("2001:db8::{number}")));
            assert!(pool.count() <= 4);
        }
        let other = enter(&pool, "192.0.2.2");
        assert!(!phone.evicted.is_cancelled() && !other.evicted.is_cancelled());
        let stay = flood.iter().filter(|place| !place.evicted.is_cancelled());
        assert_eq!(stay.count(), 2);
        drop((phone, other, flood));
        assert_eq!(pool.count(), 0);
    }
}
