//! A node that no gateway reaches does not lead what a node can lead that they reach: its shards would be silent to all clients,
//! and it would not notice, since the other nodes hear it.

use parlance_proto::ids::ShardId;
use tokio::time::{Duration, Instant, sleep};

use super::handover::Handover;
use super::tasks::Tasks;
use super::view::ClusterView;
use crate::link::Links;

/// Between looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// A gateway that has not acknowledged a frame for so long does not hear the node that sent it, or is not heard.
pub(super) const WAITING_MAX: Duration = Duration::from_secs(2);
/// It lasts longer than what the others have said may be old: up to 1 s until a gateway is sent something to acknowledge, 1 s until
/// that is measured, and 1 s until it is announced. So a gateway that falls silent to all nodes moves no leadership.
const LASTS: Duration = Duration::from_secs(4);

pub(super) struct LinkWatch {
    view: ClusterView,
    links: Links,
    handover: Handover,
    unreached: Unreached,
}

impl LinkWatch {
    pub(super) fn new(view: &ClusterView, links: &Links, handover: &Handover) -> Self {
        Self {
            view: view.clone(),
            links: links.clone(),
            handover: handover.clone(),
            unreached: Unreached::default(),
        }
    }

    /// Looks until the node stops.
    pub(super) async fn run(mut self, tasks: Tasks) {
        while tasks.or_stopped(self.look()).await.is_some() {
            if tasks.or_stopped(sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&mut self) {
        let links = self.links.linked();
        let mut states = links.iter().map(|link| &link.state);
        let is_reached = states.any(|state| state.connected && state.waiting < WAITING_MAX);
        let mut others = self.view.heard.reached_by_gateways(WAITING_MAX);
        others.remove(&self.view.node_id);
        let alone = !is_reached && !others.is_empty();
        let before = self.unreached.lasts;
        if self.unreached.look(alone, Instant::now()) {
            if !before {
                tracing::warn!("no gateway reaches this node, and they reach others: those lead");
            }
            // Nodes reach the meta shard's leader, and no gateway needs to.
            let may = |shard, to| shard != ShardId::META && others.contains(&to);
            self.handover.unfit(may).await;
        } else if before {
            tracing::info!("gateways reach this node again");
        }
    }
}

/// Since when only other nodes are reached.
#[derive(Debug, Default)]
struct Unreached {
    since: Option<Instant>,
    lasts: bool,
}

impl Unreached {
    /// Whether it has lasted for a while.
    fn look(&mut self, alone: bool, now: Instant) -> bool {
        let since = alone.then(|| *self.since.get_or_insert(now));
        self.since = since;
        self.lasts = since.is_some_and(|since| now - since >= LASTS);
        self.lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_breaks_for_a_moment_is_no_reason_to_lead_nothing() {
        let (mut unreached, start) = (Unreached::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!unreached.look(true, at(0)) && !unreached.look(true, at(3900)));
        assert!(!unreached.look(false, at(3950)) && !unreached.look(true, at(4000)));
        assert!(!unreached.look(true, at(7900)));
        assert!(unreached.look(true, at(8000)) && !unreached.look(false, at(8500)));
    }
}
