//! Leaderships that others should have: this node stops, must not lead or leads badly, or another is preferred. Whoever finds
//! that out offers them here, so that no leadership is offered twice within a while.

use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use tokio::time::{Duration, Instant, sleep, timeout};

use super::offers::{Offers, Why};
use super::steadiness::Steadiness;
use super::view::ClusterView;
use super::wanted::is_near;
use crate::raft::Replica;

/// Between looks at what is left to hand over.
const ROUND: Duration = Duration::from_millis(50);
/// So many looks without a successor, and nobody is waited for: all others are gone or about to stop.
const ROUNDS_ALONE_MAX: u32 = 6;

/// Hands leaderships of this node to others. Clones are the same.
#[derive(Clone)]
pub(super) struct Handover {
    view: ClusterView,
    steadiness: Steadiness,
    offers: Arc<Mutex<Offers>>,
}

impl Handover {
    pub(super) fn new(view: &ClusterView, steadiness: &Steadiness) -> Self {
        Self {
            view: view.clone(),
            steadiness: steadiness.clone(),
            offers: Arc::default(),
        }
    }

    /// Offers a leadership to a node, unless it was offered lately. Answers whether it did.
    pub(super) async fn offer(&self, raft: &Replica, to: NodeId, why: Why) -> bool {
        let made = self.offers.lock().make(raft.id(), why, Instant::now());
        if made {
            tracing::debug!(shard = %raft.id(), %to, ?why, "leadership is handed over");
            self.give(raft, to).await;
        }
        made
    }

    /// This node leads badly: it asks to be given nothing for a while, and offers all that it leads to those that nothing speaks
    /// against, and that `may` have it.
    pub(super) async fn unfit(&self, may: impl Fn(ShardId, NodeId) -> bool) {
        self.steadiness.unfit(Instant::now());
        for raft in self.view.led() {
            let better = self.successor(&raft).filter(|to| {
                let steady = !self.view.heard.is_unsteady(*to) && is_near(&raft.status(), *to);
                steady && may(raft.id(), *to)
            });
            if let Some(to) = better {
                self.offer(&raft, to, Why::Unfit).await;
            }
        }
    }

    /// Hands every leadership to another voter. Answers how many are left when the time is up.
    pub(super) async fn all(&self, within: Duration) -> usize {
        let handover = async {
            let mut rounds_alone = 0;
            while rounds_alone < ROUNDS_ALONE_MAX {
                let led = self.view.led();
                if led.is_empty() {
                    return;
                }
                rounds_alone += 1;
                for raft in led {
                    if let Some(successor) = self.successor(&raft) {
                        self.give(&raft, successor).await;
                        rounds_alone = 0;
                    }
                }
                sleep(ROUND).await;
            }
        };
        let _ = timeout(within, handover).await;
        self.view.led().len()
    }

    /// Gives a leadership away, so that its end is no surprise.
    async fn give(&self, raft: &Replica, to: NodeId) {
        let term = raft.leadership().borrow().term;
        self.steadiness.offered(raft.id(), term);
        raft.transfer_leader(to).await;
    }

    /// The voter that has most of the log, of those that are there and know what time it is.
    pub(super) fn successor(&self, raft: &Replica) -> Option<NodeId> {
        let (view, status) = (&self.view, raft.status());
        let others = status.voters.iter().copied();
        others
            .filter(|node| *node != view.node_id && view.heard.is_heard(*node))
            .filter(|node| !view.clock.is_far(*node) && !view.heard.has_stopped(*node, raft.id()))
            .max_by_key(|id| {
                (
                    !view.heard.is_unsteady(*id),
                    status.matched.get(id).copied(),
                )
            })
    }
}
