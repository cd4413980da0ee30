//! Unanswered requests of one caller: counted, bounded, and waited for when the gateway stops.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

use super::Caller;
use crate::bounds::Charge;

/// How many requests of a caller are unanswered.
#[derive(Debug, Default)]
pub struct InFlight {
    count: AtomicU32,
    settled: Notify,
}

/// A request that is not answered yet, and whose it is. Counts until all clones are dropped: whoever answers keeps one
/// until the answer is queued.
#[derive(Debug, Clone)]
pub struct Unanswered(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    caller: Arc<Caller>,
    /// Its bytes in the process's budget.
    _bytes: Charge,
}

impl Unanswered {
    /// One more request, with its bytes; none if the caller has `max` unanswered ones.
    pub fn begin(caller: &Arc<Caller>, max: u32, bytes: Charge) -> Option<Self> {
        let count = &caller.in_flight.count;
        let more = |n| (n < max).then_some(n + 1);
        count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        Some(Self(Arc::new(Counted {
            caller: caller.clone(),
            _bytes: bytes,
        })))
    }
}

impl Unanswered {
    /// Whose request it is, without counting it.
    pub fn caller(&self) -> &Arc<Caller> {
        &self.0.caller
    }
}

impl Deref for Unanswered {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0.caller
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let in_flight = &self.caller.in_flight;
        if in_flight.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            in_flight.settled.notify_waiters();
        }
    }
}

impl InFlight {
    /// Resolves when no request is unanswered.
    pub async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            settled.await;
        }
    }
}
