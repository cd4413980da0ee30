//! How often what is busy takes a turn.

use std::time::Duration;

/// A busy stream, link, lane or log takes a turn this seldom: what gathers meanwhile shares a frame, packets, wake-ups
/// or a sync. The first item after a pause goes at once.
pub const PACE: Duration = Duration::from_millis(1);
