//! A node that is about to stop, or to be drained, hands its leaderships to others.

use parlance_proto::ids::NodeId;
use tokio::time::{Duration, sleep, timeout};

use super::steadiness::Steadiness;
use super::view::ClusterView;
use super::wanted::is_near;
use crate::raft::Replica;

/// Between looks at what is left to hand over.
const ROUND: Duration = Duration::from_millis(50);
/// So many looks without a successor, and nobody is waited for: all others are gone or about to stop.
const ROUNDS_ALONE_MAX: u32 = 6;

/// Gives a leadership away, so that its end is no surprise.
pub(super) async fn offer(raft: &Replica, to: NodeId, steadiness: &Steadiness) {
    let term = raft.leadership().borrow().term;
    steadiness.offered(raft.id(), term);
    raft.transfer_leader(to).await;
}

/// Hands every leadership of this node to another voter. Answers how many are left when the time is up.
pub(super) async fn hand_over(
    view: &ClusterView,
    steadiness: &Steadiness,
    within: Duration,
) -> usize {
    let handover = async {
        let mut rounds_alone = 0;
        while rounds_alone < ROUNDS_ALONE_MAX {
            let led = view.led();
            if led.is_empty() {
                return;
            }
            rounds_alone += 1;
            for raft in led {
                if let Some(successor) = successor(view, &raft) {
                    offer(&raft, successor, steadiness).await;
                    rounds_alone = 0;
                }
            }
            sleep(ROUND).await;
        }
    };
    let _ = timeout(within, handover).await;
    view.led().len()
}

/// As [`successor`], of those that nothing speaks against.
pub(super) fn better_leader(view: &ClusterView, raft: &Replica) -> Option<NodeId> {
    successor(view, raft).filter(|id| !view.heard.is_unsteady(*id) && is_near(&raft.status(), *id))
}

/// The voter that has most of the log, of those that are there and know what time it is.
pub(super) fn successor(view: &ClusterView, raft: &Replica) -> Option<NodeId> {
    let status = raft.status();
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
