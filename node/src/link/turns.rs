//! Reads of one link by turns: a few run, a bounded number waits, and none begins while the gateway has not taken the
//! answers before it. So no user's requests can fill a link that others need.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::LinkSession;

/// Reads of one link that look at rows at one time.
const RUNNING_MAX: usize = 64;
/// Reads of one link that wait for that.
const WAITING_MAX: usize = 4096;

/// The reads of one link.
pub(super) struct Turns {
    places: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

/// A read that may wait for its turn.
pub struct Turn {
    link: Arc<LinkSession>,
    running: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

/// A read that looks at rows. Kept until it has its answer.
pub struct Running(
    #[allow(dead_code, reason = "only its drop matters")] Option<OwnedSemaphorePermit>,
);

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(RUNNING_MAX + WAITING_MAX)),
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
        }
    }
}

impl LinkSession {
    /// A place for one more read; none if too many wait.
    pub fn queue_read(self: &Arc<Self>) -> Option<Turn> {
        let turns = self.turns();
        Some(Turn {
            _place: turns.places.clone().try_acquire_owned().ok()?,
            running: turns.running.clone(),
            link: self.clone(),
        })
    }
}

impl Turn {
    /// Waits until this read may run and its answer has room on the link.
    pub async fn begin(&self) -> Running {
        // Never closed, so there is always a permit.
        let permit = self.running.clone().acquire_owned().await.ok();
        self.link.room_for_answers().await;
        Running(permit)
    }
}

#[cfg(test)]
use super::held::Held;
#[cfg(test)]
use parlance_proto::link::v1::Hello;

#[cfg(test)]
impl Turn {
    /// A turn on a link of its own.
    pub fn alone() -> Self {
        let link = LinkSession::new(1, &Hello::default(), &Held::new(1 << 30));
        Arc::new(link).queue_read().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Arc<LinkSession> {
        Arc::new(LinkSession::new(1, &Hello::default(), &Held::new(1 << 30)))
    }

    #[tokio::test]
    async fn reads_run_by_turns_and_what_would_wait_too_long_is_refused() {
        let link = link();
        let mut turns: Vec<_> = (0..RUNNING_MAX + WAITING_MAX)
            .map(|_| link.queue_read().unwrap())
            .collect();
        assert!(link.queue_read().is_none());
        let mut running = Vec::new();
        for turn in &turns[..RUNNING_MAX] {
            running.push(turn.begin().await);
        }
        let next = turns.pop().unwrap();
        let mut next = Box::pin(next.begin());
        assert!(futures::poll!(&mut next).is_pending());
        running.pop();
        next.await;
        turns.clear();
        assert!(link.queue_read().is_some());
    }
}
