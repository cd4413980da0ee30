//! Makes each group what the cluster map wants it to be: its voters, its learners, its preferred leader.
//!
//! Runs on every node for the groups that it leads, one move at a time: learner first, then the joint change that
//! also lets the old member go. Nothing is remembered: whoever leads next compares again and goes on.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parlance_proto::shard::{Group, META_GROUP};
use tokio::time::{Duration, Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::member::Member;
use crate::raft::{GroupStatus, NodeId, RaftGroup};

/// Between comparisons.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a new replica may take to catch up before other groups get their turn.
const MOVE_TIMEOUT: Duration = Duration::from_secs(60);
/// A leadership is left alone for this long before it is handed to the preferred leader.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// Entries that the preferred leader may be behind.
const BEHIND_MAX: u64 = 256;
/// Leaderships handed over in one comparison.
const HANDOVERS_MAX: usize = 4;
/// A preferred leader must have been heard this recently.
const HEARD_WITHIN: Duration = Duration::from_millis(1500);
/// A group whose hand-over was not taken up is left alone for this long: each try stops its writes for a moment.
const HANDOVER_PAUSE: Duration = Duration::from_secs(15);

/// What the map wants of one group.
struct Wanted {
    /// The preferred leader first.
    voters: Vec<NodeId>,
    learners: BTreeSet<NodeId>,
}

/// Compares and moves until `stop`.
pub async fn place(member: Arc<Member>, stop: CancellationToken) {
    let mut since = HashMap::new();
    let mut tried: HashMap<Group, Instant> = HashMap::new();
    while stop
        .run_until_cancelled(tokio::time::sleep(INTERVAL))
        .await
        .is_some()
    {
        let mut handovers = 0;
        for raft in member.groups() {
            let leadership = *raft.leadership().borrow();
            if !leadership.leading {
                since.remove(&raft.id());
                continue;
            }
            let led_since = *since.entry(raft.id()).or_insert_with(Instant::now);
            let Some(wanted) = wanted(&member, &raft) else {
                continue;
            };
            let status = raft.status();
            if differs(&status, &wanted) {
                move_members(&raft, &status, &wanted, &stop).await;
            } else if handovers < HANDOVERS_MAX
                && led_since.elapsed() > SETTLED_AFTER
                && tried
                    .get(&raft.id())
                    .is_none_or(|at| at.elapsed() > HANDOVER_PAUSE)
                && hand_to_preferred(&member, &raft, &status, &wanted).await
            {
                tried.insert(raft.id(), Instant::now());
                handovers += 1;
            }
        }
    }
}

fn wanted(member: &Member, raft: &RaftGroup) -> Option<Wanted> {
    let meta = member.meta().borrow().clone();
    let map = meta.map.as_ref()?;
    if raft.id() == META_GROUP {
        // Every member reads the cluster map, so those that do not vote learn.
        let voters = map.meta_replicas.clone();
        let learners = meta
            .members()
            .map(|node| node.node_id)
            .filter(|id| !voters.contains(id))
            .collect();
        return Some(Wanted { voters, learners });
    }
    let shard = meta.shard(parlance_proto::shard::group_shard(raft.id())?)?;
    Some(Wanted {
        voters: shard.replicas.clone(),
        learners: BTreeSet::new(),
    })
}

fn differs(status: &GroupStatus, wanted: &Wanted) -> bool {
    status.voters != wanted.voters.iter().copied().collect()
        || !wanted.learners.is_subset(&status.learners)
}

async fn move_members(
    raft: &RaftGroup,
    status: &GroupStatus,
    wanted: &Wanted,
    stop: &CancellationToken,
) {
    let voters: BTreeSet<NodeId> = wanted.voters.iter().copied().collect();
    let group = raft.id();
    let work = async {
        for node in voters
            .difference(&status.voters)
            .chain(wanted.learners.difference(&status.learners))
        {
            tracing::info!(group, node, "a replica joins and learns");
            raft.add_learner(*node).await?;
        }
        if voters != status.voters {
            tracing::info!(group, ?voters, "the voters change");
            raft.change_voters(voters.clone()).await?;
        }
        Ok::<_, crate::raft::MembershipError>(())
    };
    match stop.run_until_cancelled(timeout(MOVE_TIMEOUT, work)).await {
        Some(Ok(Ok(()))) | None => {}
        Some(Ok(Err(error))) => {
            tracing::warn!(group, %error, "the members could not be changed yet")
        }
        Some(Err(_)) => tracing::warn!(group, "the new replica has not caught up yet"),
    }
}

/// Answers whether it tried.
async fn hand_to_preferred(
    member: &Member,
    raft: &RaftGroup,
    status: &GroupStatus,
    wanted: &Wanted,
) -> bool {
    let Some(&preferred) = wanted.voters.first() else {
        return false;
    };
    if preferred == member.node_id() || !member.leaders().is_heard_within(preferred, HEARD_WITHIN) {
        return false;
    }
    let caught_up = status
        .matched
        .get(&preferred)
        .is_some_and(|index| index + BEHIND_MAX >= status.last_log_index);
    if caught_up {
        tracing::debug!(
            group = raft.id(),
            to = preferred,
            "leadership goes to the preferred leader"
        );
        raft.transfer_leader(preferred).await;
    }
    caught_up
}
