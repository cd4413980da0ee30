//! Leaderships that this node has offered to others lately. A leader that offers takes nothing more until somebody is elected:
//! an offer that was not taken up is not made again at once.

use std::collections::HashMap;

use parlance_proto::ids::ShardId;
use tokio::time::{Duration, Instant};

/// Why another should lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is the shard's preferred leader.
    Preferred,
    /// This node must not lead, or cannot do it well: each moment counts.
    Unfit,
}

impl Why {
    /// Between two offers.
    fn pause(self) -> Duration {
        match self {
            Why::Preferred => Duration::from_secs(15),
            Why::Unfit => Duration::from_secs(5),
        }
    }
}

/// When each leadership was offered last.
#[derive(Default)]
pub(super) struct Offers {
    made: HashMap<ShardId, (Instant, Why)>,
}

impl Offers {
    /// Whether a leadership may be offered; then it counts as offered. What was only preferred keeps nobody who has to go.
    pub(super) fn make(&mut self, shard: ShardId, why: Why, now: Instant) -> bool {
        let may = self.made.get(&shard).is_none_or(|(at, before)| {
            let is_more_urgent = why == Why::Unfit && *before == Why::Preferred;
            is_more_urgent || now.saturating_duration_since(*at) >= why.pause()
        });
        if may {
            self.made.insert(shard, (now, why));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ShardId = ShardId(1);

    #[test]
    fn a_node_that_must_not_lead_does_not_wait_as_long_as_one_that_need_not() {
        let (mut offers, start) = (Offers::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(offers.make(ONE, Why::Preferred, at(0)));
        assert!(!offers.make(ONE, Why::Preferred, at(14)));
        assert!(offers.make(ONE, Why::Unfit, at(0)), "its clock jumps now");
        assert!(!offers.make(ONE, Why::Unfit, at(4)));
        assert!(!offers.make(ONE, Why::Preferred, at(5)));
        assert!(offers.make(ONE, Why::Unfit, at(5)), "nobody took it up");
        assert!(offers.make(ShardId(2), Why::Preferred, at(0)));
    }
}
