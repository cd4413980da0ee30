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

impl Default for Pace {
    fn default() -> Self {
        Self {
            paid: Instant::now(),
        }
    }
}

impl Pace {
    /// Until when the next turn has to wait; nothing if it may be taken now.
    pub fn wait(&self) -> Option<Instant> {
        let now = Instant::now();
        Some(self.due()).filter(|due| *due > now)
    }

    /// A turn is taken, with so many items.
    pub fn take(&mut self, items: usize) {
        self.take_at(Instant::now(), items);
    }

    fn due(&self) -> Instant {
        let ahead = INTERVAL * (BURST - 1);
        self.paid.checked_sub(ahead).unwrap_or(self.paid)
    }

    fn take_at(&mut self, now: Instant, items: usize) {
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
        let mut pace = Pace { paid: start };
        for _ in 0..BURST {
            assert!(pace.due() <= start);
            pace.take_at(start, 1);
        }
        let mut now = start;
        for _ in 0..5 {
            assert_eq!(pace.due(), now + INTERVAL);
            now = pace.due();
            pace.take_at(now, 1);
        }
        let later = now + INTERVAL * 100;
        for _ in 0..BURST {
            assert!(pace.due() <= later);
            pace.take_at(later, 1);
        }
        assert_eq!(pace.due(), later + INTERVAL, "a long rest earns no more");
        let gathered = later + INTERVAL * 200;
        pace.take_at(gathered, 2);
        assert_eq!(pace.due(), gathered + INTERVAL);
    }
}
