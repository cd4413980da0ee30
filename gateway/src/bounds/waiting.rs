//! Connections that have not logged in: a small pool of their own, so that sockets that say nothing never take the places
//! of users. When it is full, whoever has waited longest gives way to the newest.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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
    /// In the order in which they came.
    places: BTreeMap<u64, CancellationToken>,
}

/// A place in the pool; free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    pool: Arc<Waiting>,
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

    /// A place for one more connection.
    pub fn enter(self: &Arc<Self>) -> Place {
        let evicted = CancellationToken::new();
        let mut inner = self.inner.lock();
        inner.last += 1;
        let number = inner.last;
        inner.places.insert(number, evicted.clone());
        let longest = if inner.places.len() > self.max {
            inner.places.pop_first()
        } else {
            None
        };
        drop(inner);
        if let Some((_, longest)) = longest {
            refused("connections_waiting");
            longest.cancel();
        }
        Place {
            pool: self.clone(),
            number,
            evicted,
            since: Instant::now(),
        }
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.inner.lock().places.len()
    }
}

impl Place {
    /// Resolves when the connection has to give way to another.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.inner.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_waiting_gives_way_and_who_left_keeps_nobody_out() {
        let pool = Waiting::new(2);
        let (first, second) = (pool.enter(), pool.enter());
        drop(first);
        let third = pool.enter();
        assert!(!second.evicted.is_cancelled());
        let fourth = pool.enter();
        second.evicted().await;
        assert!(!third.evicted.is_cancelled() && !fourth.evicted.is_cancelled());
        drop((second, third, fourth));
        assert_eq!(pool.count(), 0);
    }
}
