//! Makes each shard what the cluster map wants it to be: its voters, its learners, its preferred leader.
//!
//! Runs on every node for the shards that it leads: learner first, and once it is near, the joint change that also lets
//! the old replica go. Nothing is remembered: whoever leads next compares again and goes on.

use std::collections::HashMap;

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::store::v1::NodeState;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::handover::Handover;
use super::offers::Why;
use super::tasks::Tasks;
use super::view::ClusterView;
use super::wanted::{Step, Wanted, is_near};
use crate::raft::{MembershipError, Replica, ReplicaStatus};
use crate::sabotage::{CrashPoint, crash_point};

/// Between comparisons.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long one step may take before other shards get their turn.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// Shards of this node that have replicas on the way at the same time.
const MOVES_MAX: usize = 4;
/// A leadership is left alone for this long before it is handed to the preferred leader.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// Leaderships handed over in one comparison.
const HANDOVERS_MAX: usize = 4;
/// A preferred leader must have been heard this recently.
const HEARD_WITHIN: Duration = Duration::from_millis(1500);

pub(super) struct Placement {
    view: ClusterView,
    handover: Handover,
    /// Since when this node leads, by shard.
    since: HashMap<ShardId, Instant>,
    clock_was_wrong: bool,
}

impl Placement {
    pub(super) fn new(view: &ClusterView, handover: &Handover) -> Self {
        Self {
            view: view.clone(),
            handover: handover.clone(),
            since: HashMap::new(),
            clock_was_wrong: false,
        }
    }

    /// Compares and moves until the node stops.
    pub(super) async fn run(mut self, tasks: Tasks) {
        while tasks.or_stopped(sleep(INTERVAL)).await.is_some() {
            if tasks.or_stopped(self.compare()).await.is_none() {
                return;
            }
        }
    }

    async fn compare(&mut self) {
        let led = self.view.led();
        self.since
            .retain(|id, _| led.iter().any(|raft| raft.id() == *id));
        // Gateways do not dial a replaced node, and it may be needed as a voter for long.
        let state = self.view.state();
        let own = state.node(self.view.node_id);
        let is_replaced = own.is_some_and(|node| node.state() == NodeState::Removed);
        let leads_no_more = self.clock_is_wrong() || is_replaced;
        let (mut moves, mut handovers) = (0, 0);
        for raft in led {
            let led_since = *self.since.entry(raft.id()).or_insert_with(Instant::now);
            let Some(wanted) = Wanted::of(&self.view.state(), raft.id()) else {
                continue;
            };
            let status = raft.status();
            if leads_no_more && self.hand_over(&raft, &status, &wanted, Why::Unfit).await {
                continue;
            }
            if let Some(step) = wanted.step(&status) {
                moves += 1;
                if moves <= MOVES_MAX {
                    take(&raft, step).await;
                }
            } else if handovers < HANDOVERS_MAX
                && led_since.elapsed() > SETTLED_AFTER
                && self
                    .hand_over(&raft, &status, &wanted, Why::Preferred)
                    .await
            {
                handovers += 1;
            }
        }
    }

    /// Answers whether somebody was offered it.
    async fn hand_over(
        &self,
        raft: &Replica,
        status: &ReplicaStatus,
        wanted: &Wanted,
        why: Why,
    ) -> bool {
        match self.heir(raft, status, wanted, why) {
            Some(to) => self.handover.offer(raft, to, why).await,
            None => false,
        }
    }

    /// Whether the clock here says that this node must not lead; said at each change.
    fn clock_is_wrong(&mut self) -> bool {
        let (clock, node) = (&self.view.clock, self.view.node_id);
        let is_wrong = clock.is_far(node);
        if is_wrong != self.clock_was_wrong {
            self.clock_was_wrong = is_wrong;
            let ahead_ms = clock.ahead_ms(node).unwrap_or(0);
            if is_wrong {
                tracing::error!(
                    ahead_ms,
                    "this node's clock is far from the other nodes': it leads nothing until it is set right"
                );
            } else {
                tracing::info!(ahead_ms, "this node's clock is right again");
            }
        }
        is_wrong
    }

    /// Who is to lead in this node's place, if anybody: the preferred leader, or, if this node must not lead, whoever can.
    fn heir(
        &self,
        raft: &Replica,
        status: &ReplicaStatus,
        wanted: &Wanted,
        why: Why,
    ) -> Option<NodeId> {
        let view = &self.view;
        let preferred = wanted.voters.first().copied().filter(|preferred| {
            *preferred != view.node_id
                && status.voters.contains(preferred)
                && !view.heard.is_unsteady(*preferred)
                && !view.heard.has_stopped(*preferred, raft.id())
                && !view.clock.is_far(*preferred)
                && view.heard.is_heard_within(*preferred, HEARD_WITHIN)
                && is_near(status, *preferred)
        });
        preferred.or_else(|| {
            let successor = self.handover.successor(raft);
            successor.filter(|_| why == Why::Unfit)
        })
    }
}

async fn take(raft: &Replica, step: Step) {
    let shard = raft.id();
    let work = async {
        match step {
            Step::AddLearners(nodes) => {
                for node in nodes {
                    tracing::info!(%shard, %node, "a replica joins and learns");
                    raft.add_learner(node).await?;
                }
            }
            Step::Wait(nodes) => tracing::debug!(%shard, ?nodes, "new replicas learn"),
            Step::ChangeVoters(voters) => {
                tracing::info!(%shard, ?voters, "the voters change");
                crash_point(CrashPoint::BeforeVotersChange);
                raft.change_voters(voters).await?;
                crash_point(CrashPoint::AfterVotersChange);
            }
            Step::RemoveLearners(nodes) => {
                tracing::info!(%shard, ?nodes, "replicas leave");
                raft.remove_learners(nodes).await?;
            }
        }
        Ok::<_, MembershipError>(())
    };
    match timeout(STEP_TIMEOUT, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%shard, %error, "the replicas could not be changed yet"),
        Err(_) => tracing::warn!(%shard, "a change of the replicas takes long"),
    }
}
