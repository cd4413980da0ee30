//! What others can cause as often as they like is told in the log, but seldom.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant, sleep};

const INTERVAL: Duration = Duration::from_secs(10);
/// Texts that are told in one interval: whoever can choose the text must not fill the log either.
const TEXTS_MAX: usize = 16;

/// Whether to tell something: the same is not told again for ten seconds, or for as long as it says, and of different things no more
/// than a few in that time. How many others there were is told at its end.
pub struct Seldom {
    /// What kind of thing is told, for the log.
    what: &'static str,
    interval: Duration,
    told: Mutex<HashMap<String, Instant>>,
    /// Times that something was not told for lack of room.
    left_out: Arc<AtomicU64>,
}

impl Seldom {
    /// Tells the same once in ten seconds.
    pub fn new(what: &'static str) -> Self {
        Self::every(INTERVAL, what)
    }

    /// Tells the same once in `interval`.
    pub fn every(interval: Duration, what: &'static str) -> Self {
        Self {
            what,
            interval,
            told: Mutex::default(),
            left_out: Arc::default(),
        }
    }

    /// Whether this is to be told now. To be asked in a task of tokio.
    pub fn tells(&self, text: &str) -> bool {
        let tells = self.tells_at(text, Instant::now());
        if tells.is_none() && self.left_out.fetch_add(1, Ordering::Relaxed) == 0 {
            self.tell_later();
        }
        tells == Some(true)
    }

    /// Nothing: it would be, if there were room for one more.
    fn tells_at(&self, text: &str, now: Instant) -> Option<bool> {
        let mut told = self.told.lock();
        told.retain(|_, at| now.duration_since(*at) < self.interval);
        if told.contains_key(text) {
            return Some(false);
        }
        if told.len() == TEXTS_MAX {
            return None;
        }
        told.insert(text.to_owned(), now);
        Some(true)
    }

    /// One line for all that is left out from now on until the interval is over.
    fn tell_later(&self) {
        let (what, interval, left_out) = (self.what, self.interval, self.left_out.clone());
        tokio::spawn(async move {
            sleep(interval).await;
            let lines = left_out.swap(0, Ordering::Relaxed);
            tracing::warn!(
                what,
                lines,
                ?interval,
                "lines were left out of this log: too many different ones"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_testkit::log_lines::LogLines;

    #[test]
    fn each_thing_is_told_once_in_its_time_however_they_come_in_turns() {
        let (seldom, start) = (Seldom::new("test"), Instant::now());
        let mut told = Vec::new();
        for tenth in 0..150 {
            let now = start + Duration::from_millis(100 * tenth);
            for text in ["a", "b"] {
                if seldom.tells_at(text, now) == Some(true) {
                    told.push((tenth, text));
                }
            }
        }
        assert_eq!(told, [(0, "a"), (0, "b"), (100, "a"), (100, "b")]);
    }

    #[test]
    fn texts_that_are_never_the_same_do_not_fill_the_log_or_the_memory() {
        let (seldom, start) = (Seldom::new("test"), Instant::now());
        let texts = |now| {
            let told = (0..10_000)
                .filter(|n| seldom.tells_at(&format!("{n} at {now:?}"), now) == Some(true));
            told.count()
        };
        assert_eq!(texts(start), TEXTS_MAX);
        assert_eq!(texts(start + INTERVAL / 2), 0);
        assert_eq!(texts(start + INTERVAL), TEXTS_MAX);
        assert_eq!(seldom.told.lock().len(), TEXTS_MAX);
    }

    #[tokio::test]
    async fn what_is_left_out_is_counted_and_told_once_when_its_time_is_over() {
        let lines = LogLines::default();
        let _log = lines.install();
        let seldom = Seldom::every(Duration::from_millis(200), "refused links");
        let told = (0..100).filter(|n| seldom.tells(&n.to_string())).count();
        assert!(!seldom.tells("0"), "told before, and not left out");
        let left_out = "lines were left out";
        assert_eq!((told, lines.with(left_out).len()), (TEXTS_MAX, 0));
        let line = lines.nth(1, left_out).await.unwrap();
        assert!(line.contains("what=\"refused links\""), "{line}");
        assert!(line.contains("lines=84"), "{line}");
        // The next time is counted anew.
        let told = (100..200).filter(|n| seldom.tells(&n.to_string())).count();
        let line = lines.nth(2, left_out).await.unwrap();
        assert!(line.contains(&format!("lines={}", 100 - told)), "{line}");
    }
}
