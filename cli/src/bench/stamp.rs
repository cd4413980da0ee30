//! When a message was sent, carried in its text: the receiving session is in this process and has the same clock.

use std::time::Duration;

use tokio::time::Instant;

/// The clock of a run.
#[derive(Debug, Clone, Copy)]
pub struct Stamps {
    start: Instant,
}

const DIGITS: usize = 16;

impl Stamps {
    /// Starts now.
    pub fn begin() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub fn start(&self) -> Instant {
        self.start
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The stamp of a moment.
    pub fn at(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Time since a stamp.
    pub fn since(&self, stamp: u64) -> Duration {
        Duration::from_nanos(self.now().saturating_sub(stamp))
    }

    /// A text of so many bytes that begins with a stamp.
    pub fn text(stamp: u64, bytes: usize) -> String {
        let mut text = format!("{stamp:0DIGITS$x}");
        text.extend(std::iter::repeat_n('.', bytes.saturating_sub(DIGITS)));
        text
    }

    /// The stamp of a text.
    pub fn parse(text: &str) -> Option<u64> {
        u64::from_str_radix(text.get(..DIGITS)?, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_stamp_and_its_size() {
        for stamp in [0, 77, u64::MAX] {
            let text = Stamps::text(stamp, 256);
            assert_eq!((text.len(), Stamps::parse(&text)), (256, Some(stamp)));
        }
        assert_eq!(Stamps::parse("hello"), None);
        assert_eq!(Stamps::parse("用户用户用户用户用"), None);
    }
}
