//! What others can cause as often as they like is told in the log, but seldom.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(10);
/// Texts that are told in one interval: whoever can choose the text must not fill the log either.
const TEXTS_MAX: usize = 16;

/// Whether to tell something: the same is not told again for ten seconds, or for as long as it says, and of different things no more
/// than a few in that time.
pub struct Seldom {
    interval: Duration,
    told: Mutex<HashMap<String, Instant>>,
}

impl Default for Seldom {
    fn default() -> Self {
        Self::every(INTERVAL)
    }
}

impl Seldom {
    /// Tells the same once in `interval`.
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            told: Mutex::default(),
        }
    }

    /// Whether this is to be told now.
    pub fn tells(&self, text: &str) -> bool {
        self.tells_at(text, Instant::now())
    }

    fn tells_at(&self, text: &str, now: Instant) -> bool {
        let mut told = self.told.lock();
        told.retain(|_, at| now.duration_since(*at) < self.interval);
        if told.contains_key(text) || told.len() == TEXTS_MAX {
            return false;
        }
        told.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_told_once_in_its_time_however_they_come_in_turns() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let mut told = Vec::new();
        for tenth in 0..150 {
            let now = start + Duration::from_millis(100 * tenth);
            for text in ["a", "b"] {
                if seldom.tells_at(text, now) {
                    told.push((tenth, text));
                }
            }
        }
        assert_eq!(told, [(0, "a"), (0, "b"), (100, "a"), (100, "b")]);
    }

    #[test]
    fn texts_that_are_never_the_same_do_not_fill_the_log_or_the_memory() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let texts = |now| {
            let told = (0..10_000).filter(|n| seldom.tells_at(&format!("{n} at {now:?}"), now));
            told.count()
        };
        assert_eq!(texts(start), TEXTS_MAX);
        assert_eq!(texts(start + INTERVAL / 2), 0);
        assert_eq!(texts(start + INTERVAL), TEXTS_MAX);
        assert_eq!(seldom.told.lock().len(), TEXTS_MAX);
    }
}
