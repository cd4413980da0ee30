//! Leaderships that this node lost without giving them away: its disk or its network is slow, and handing them back at
//! once would cost an election each time. So it asks to be left alone, for longer each time.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::ids::ShardId;
use tokio::time::{Duration, Instant};

/// After the first loss.
const PAUSE_MIN: Duration = Duration::from_secs(15);
/// After many.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// Losses this close together are one: a stall costs all shards their leader.
const ONE_STALL: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    /// The newest term whose leadership was offered to another, by shard.
    offered: HashMap<ShardId, u64>,
    last_loss: Option<Instant>,
    pause: Duration,
    until: Option<Instant>,
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Steadiness {
    state: Arc<Mutex<State>>,
}

impl Steadiness {
    /// This node asks another to lead a shard in its place.
    pub(super) fn offered(&self, shard: ShardId, term: u64) {
        self.state.lock().offered.insert(shard, term);
    }

    /// This node led in `term` and does not any more.
    pub(super) fn ended(&self, shard: ShardId, term: u64, now: Instant) {
        let mut state = self.state.lock();
        if state.offered.get(&shard) == Some(&term) {
            return;
        }
        let since = state.last_loss.map(|at| now.saturating_duration_since(at));
        state.last_loss = Some(now);
        if since.is_some_and(|since| since < ONE_STALL) {
            return;
        }
        // A loss long after the pause was over is the first again.
        let calm = since.is_none_or(|since| since > state.pause * 2);
        state.pause = if calm {
            PAUSE_MIN
        } else {
            (state.pause * 2).min(PAUSE_MAX)
        };
        state.until = Some(now + state.pause);
    }

    /// This node should not lead, for as long as it says so.
    pub(super) fn unfit(&self, now: Instant) {
        let mut state = self.state.lock();
        state.until = state.until.max(Some(now + PAUSE_MIN));
    }

    /// For how long nothing should be handed to this node.
    pub(super) fn unsteady(&self, now: Instant) -> Duration {
        let until = self.state.lock().until;
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_stall_makes_the_pause_longer_and_calm_makes_it_short_again() {
        let steadiness = Steadiness::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let pause = |seconds| steadiness.unsteady(at(seconds)).as_secs();
        assert_eq!(pause(0), 0);
        steadiness.ended(ShardId(1), 4, at(0));
        steadiness.ended(ShardId(2), 4, at(1));
        assert_eq!(pause(1), 14, "one stall");
        steadiness.ended(ShardId(1), 6, at(20));
        assert_eq!(pause(20), 30);
        steadiness.ended(ShardId(1), 8, at(60));
        assert_eq!(pause(60), 60);
        steadiness.ended(ShardId(1), 10, at(1_000));
        assert_eq!(pause(1_000), 15);
    }

    #[tokio::test]
    async fn a_node_that_is_not_fit_to_lead_is_left_alone_for_a_while_after() {
        let (steadiness, now) = (Steadiness::default(), Instant::now());
        steadiness.unfit(now);
        assert_eq!(steadiness.unsteady(now), PAUSE_MIN);
        assert!(steadiness.unsteady(now + PAUSE_MIN).is_zero());
    }

    #[tokio::test]
    async fn what_was_given_away_is_not_lost() {
        let steadiness = Steadiness::default();
        steadiness.offered(ShardId(1), 4);
        steadiness.ended(ShardId(1), 4, Instant::now());
        assert!(steadiness.unsteady(Instant::now()).is_zero());
        steadiness.ended(ShardId(1), 6, Instant::now());
        assert!(!steadiness.unsteady(Instant::now()).is_zero());
    }
}
