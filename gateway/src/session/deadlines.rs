//! When something is due for a session: one ordered table for all sessions of the gateway, and one task that waits for the
//! first of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::Session;

/// The deadlines of all sessions, one each.
#[derive(Debug, Default)]
pub struct Deadlines {
    due: Mutex<BTreeMap<(Instant, Uuid), Weak<Session>>>,
    sooner: Notify,
}

impl Deadlines {
    /// Something is due for a session at a time.
    pub fn set(&self, session: &Arc<Session>, at: Instant) {
        let key = (at, session.id);
        let mut due = self.due.lock();
        due.insert(key, Arc::downgrade(session));
        let first = due
            .first_key_value()
            .is_some_and(|(first, _)| *first == key);
        drop(due);
        if first {
            self.sooner.notify_one();
        }
    }

    /// Nothing is due for it at that time any more.
    pub fn clear(&self, session: &Session, at: Instant) {
        self.due.lock().remove(&(at, session.id));
    }

    /// Waits for the next deadlines and takes them.
    pub async fn next(&self) -> Vec<Arc<Session>> {
        loop {
            let first = self.due.lock().first_key_value().map(|((at, _), _)| *at);
            match first {
                Some(at) if at <= Instant::now() => return self.take(Instant::now()),
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.sooner.notified() => {}
                },
                None => self.sooner.notified().await,
            }
        }
    }

    fn take(&self, now: Instant) -> Vec<Arc<Session>> {
        let mut due = self.due.lock();
        // `Uuid::max`: all that are due at that very time, too.
        let later = due.split_off(&(now, Uuid::max()));
        let taken = std::mem::replace(&mut *due, later);
        drop(due);
        taken.values().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn deadlines_come_in_their_order_and_those_of_the_gone_do_not() {
        let deadlines = Arc::new(Deadlines::default());
        let now = Instant::now();
        let after = |n: u64| now + Duration::from_millis(10 * n);
        let session = || Arc::new(Session::alone());
        let [first, second, gone, dropped] = [session(), session(), session(), session()];
        // It waits before anything is due.
        let waiting = tokio::spawn({
            let deadlines = deadlines.clone();
            async move {
                let mut due = Vec::new();
                while due.len() < 2 {
                    due.extend(deadlines.next().await.iter().map(|session| session.id));
                }
                due
            }
        });
        tokio::task::yield_now().await;
        deadlines.set(&second, after(9));
        deadlines.set(&gone, after(3));
        deadlines.set(&dropped, after(4));
        deadlines.set(&first, after(5));
        deadlines.clear(&gone, after(3));
        drop(dropped);
        let due = waiting.await.unwrap();
        assert!(Instant::now() >= after(9));
        assert_eq!(due, [first.id, second.id], "the others are nobody's");
        assert!(deadlines.due.lock().is_empty());
    }
}
