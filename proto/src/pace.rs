//! How often what is busy takes a turn.

use std::time::{Duration, Instant};

/// Between the turns of a busy stream, link, lane or log: what gathers meanwhile shares a frame, packets, wake-ups or a
/// sync.
const INTERVAL: Duration = Duration::from_millis(1);
/// Turns of a single item that may be taken one after the other when there were few before: a lone message waits
/// nowhere.
const BURST: u32 = 4;

/// The turns of one stream, link, lane or log.
#[derive(Debug)]
pub struct Pace {
    /// When as many turns will have been due as were taken.
    paid: Instant,
}

impl Pace {
    /// No turn was taken yet.
    pub fn new(now: Instant) -> Self {
        Self { paid: now }
    }

    /// Until when the next turn has to wait; nothing if it may be taken now.
    pub fn wait(&self, now: Instant) -> Option<Instant> {
        let ahead = INTERVAL * (BURST - 1);
        let due = self.paid.checked_sub(ahead).unwrap_or(self.paid);
        Some(due).filter(|due| *due > now)
    }

    /// A turn is taken, with so many items.
    pub fn take(&mut self, now: Instant, items: usize) {
        self.paid = if items > 1 {
            now + INTERVAL * BURST
        } else {
            self.paid.max(now) + INTERVAL
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_items_wait_when_there_are_many_and_gathered_ones_always() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..BURST {
            assert_eq!(pace.wait(start), None);
            pace.take(start, 1);
        }
        let mut now = start;
        for _ in 0..5 {
            let due = pace.wait(now).unwrap();
            assert_eq!(due, now + INTERVAL);
            now = due;
            pace.take(now, 1);
        }
        let later = now + INTERVAL * 100;
        for _ in 0..BURST {
            assert_eq!(pace.wait(later), None);
            pace.take(later, 1);
        }
        assert_eq!(
            pace.wait(later),
            Some(later + INTERVAL),
            "a long rest earns no more"
        );
        let gathered = later + INTERVAL * 200;
        pace.take(gathered, 2);
        assert_eq!(pace.wait(gathered), Some(gathered + INTERVAL));
        assert_eq!(pace.wait(gathered + INTERVAL), None);
    }
}
