//! What others can cause as often as they like is told in the log, but seldom.

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(10);

/// Whether to tell something: what was told last is not told again for ten seconds, or for as long as it says.
pub struct Seldom {
    interval: Duration,
    last: Mutex<Option<(String, Instant)>>,
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
            last: Mutex::default(),
        }
    }

    /// Whether this is to be told now.
    pub fn tells(&self, text: &str) -> bool {
        let mut last = self.last.lock();
        let again = last
            .as_ref()
            .is_some_and(|(told, at)| told == text && at.elapsed() < self.interval);
        if !again {
            *last = Some((text.to_owned(), Instant::now()));
        }
        !again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_and_another_thing_at_once() {
        let seldom = Seldom::default();
        let told = ["a", "a", "b", "b", "a"].map(|text| seldom.tells(text));
        assert_eq!(told, [true, false, true, false, true]);
    }
}
