//! Replacing a lost node by a new one.

use parlance_proto::admin::v1::{NodeSpec, ReplaceNodeRequest};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::store::v1::{AddNode, MapNode, ReplaceNode, meta_command};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use crate::cluster::{
    ClusterView, LeadReport, NodeContext, Runtime, check_addresses, invite, map_node,
};
use crate::meta::{MetaState, MetaWatch};

/// How long shards may take to say that they are settled by the newest map.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Invites the new node and gives it the old one's place in every shard; the leaders of the shards do the rest, and the
/// old node serves until they have. Asked again after a failure half-way, it resumes.
pub(super) async fn replace(
    context: &NodeContext,
    runtime: &Runtime,
    ask: ReplaceNodeRequest,
) -> Result<u64, Error> {
    let spec = ask
        .new_node
        .ok_or_else(|| Error::invalid("new_node", "the new node must be named"))?;
    check_addresses(&spec)?;
    let (old, new) = (NodeId(ask.old_node_id), NodeId(spec.node_id));
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let state = runtime.view().state();
        if state.is_replaced(old, new) {
            return Ok(state.version());
        }
        check_nodes(&state, old, new)?;
        match check_shards(runtime.view(), &state, old) {
            // It may be about to say that it is settled.
            Err(unready) if unready.passes && Instant::now() < deadline => sleep(PAUSE).await,
            Err(unready) => return Err(unready.error()),
            // Then the shards are looked at once more, by a map that has the new node.
            Ok(()) if !state.is_member(new) => add(context, runtime, &state, &spec).await?,
            Ok(()) => match propose(runtime, old, new, state.version()).await {
                // The map has changed since.
                Err(error)
                    if error.code() == ErrorCode::PreconditionFailed
                        && is_newer(&runtime.view().meta, state.version(), deadline).await => {}
                done => return done,
            },
        }
    }
}

/// Waits until the map that is known here is newer than this version; false if none is by the deadline.
async fn is_newer(meta: &MetaWatch, version: u64, deadline: Instant) -> bool {
    let mut meta = meta.clone();
    let newer = meta.wait_for(|state| state.version() > version);
    matches!(timeout_at(deadline, newer).await, Ok(Ok(_)))
}

async fn propose(runtime: &Runtime, old: NodeId, new: NodeId, version: u64) -> Result<u64, Error> {
    let replace = ReplaceNode {
        old_node_id: old.0,
        new_node_id: new.0,
        map_version: version,
    };
    let body = meta_command::Body::ReplaceNode(replace);
    runtime.meta_client().propose(body).await
}

fn check_nodes(state: &MetaState, old: NodeId, new: NodeId) -> Result<(), Error> {
    if state.map().is_none() {
        let message = "there is no cluster map yet";
        return Err(Error::new(ErrorCode::Unavailable, message));
    }
    if !state.is_member(old) {
        let message = format!("node {old} is not a member");
        return Err(Error::new(ErrorCode::NotFound, message));
    }
    if new.0 == 0 || new == old {
        let message = format!("node id {new} is not allowed: a new member needs a new id above 0");
        return Err(Error::invalid("new_node.node_id", message));
    }
    Ok(())
}

/// Why a node may not leave a shard now.
#[derive(Debug, PartialEq, Eq)]
struct Unready {
    shard: ShardId,
    reason: &'static str,
    /// It may be over in a moment.
    passes: bool,
}

impl Unready {
    fn error(&self) -> Error {
        let Self { shard, reason, .. } = self;
        let message = format!("shard {shard} {reason}: see parlance cluster status");
        Error::new(ErrorCode::PreconditionFailed, message)
    }
}

/// One move at a time, and none that leaves a shard without a live majority.
fn check_shards(view: &ClusterView, state: &MetaState, old: NodeId) -> Result<(), Unready> {
    let shards = state.shards().iter();
    let shards = shards.map(|shard| (shard.id(), shard.voters().collect::<Vec<_>>()));
    let meta = state.map().map(|map| {
        let replicas = map.meta_replicas.iter();
        (ShardId::META, replicas.copied().map(NodeId).collect())
    });
    for (id, wanted) in shards.chain(meta) {
        let shard = Shard {
            wanted,
            report: view.heard.report(id),
            version: state.version(),
        };
        let found = |node| {
            if !view.is_reachable(node) {
                Found::Silent
            } else if view.heard.has_stopped(node, id) {
                Found::Stopped
            } else {
                Found::Running
            }
        };
        let may_leave = shard.may_leave(old, found);
        may_leave.map_err(|(reason, passes)| Unready {
            shard: id,
            reason,
            passes,
        })?;
    }
    Ok(())
}

/// How a node's replica of a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Running,
    /// By itself, on a node that answers.
    Stopped,
    Silent,
}

/// One shard, by the cluster map of this version and by what its leader says.
struct Shard {
    wanted: Vec<NodeId>,
    report: Option<LeadReport>,
    version: u64,
}

impl Shard {
    /// Whether `old` may leave it; if not, why, and whether that may be over in a moment. It serves until another has its
    /// place, and counts where nobody can go first: the last replicas of a shard, which are no majority without it, and
    /// nodes of which each has another replica that has stopped.
    fn may_leave(
        &self,
        old: NodeId,
        found: impl Fn(NodeId) -> Found,
    ) -> Result<(), (&'static str, bool)> {
        let report = self.report.as_ref();
        let report = report.ok_or(("has no leader that is known", true))?;
        let voters = match report.settled {
            settled if settled >= self.version => &self.wanted,
            // A replacement that died before it had a vote is none that anybody waits for.
            0 if !report.voters.is_empty() && !report.voters.contains(&old) => &report.voters,
            _ => return Err(("is still moving replicas", true)),
        };
        if !voters.contains(&old) && !self.wanted.contains(&old) {
            return Ok(());
        }
        let is_live = |id: &NodeId| found(*id) == Found::Running && !report.behind.contains_key(id);
        let others = || voters.iter().filter(|id| **id != old);
        let live = others().filter(|id| is_live(id)).count();
        let majority = voters.len() / 2 + 1;
        let nobody_else_first = others().all(|id| is_live(id) || found(*id) == Found::Stopped);
        if live >= majority || (nobody_else_first && live + 1 >= majority && is_live(&old)) {
            return Ok(());
        }
        let reason = "would be left without a majority of replicas that answer and have its log";
        Err((reason, false))
    }
}

async fn add(
    context: &NodeContext,
    runtime: &Runtime,
    state: &MetaState,
    spec: &NodeSpec,
) -> Result<(), Error> {
    let mut with_new = state.map().cloned().unwrap_or_default();
    with_new.nodes.push(map_node(spec));
    context.directory().suggest(&with_new);
    let store_id = invite(context, NodeId(spec.node_id), &with_new).await?;
    let node = MapNode {
        store_id,
        ..map_node(spec)
    };
    let add = AddNode { node: Some(node) };
    let body = meta_command::Body::AddNode(add);
    runtime.meta_client().propose(body).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use parlance_proto::store::v1::ClusterMap;
    use tokio::sync::watch;

    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);
    const THREE: NodeId = NodeId(3);
    const FOUR: NodeId = NodeId(4);
    const VERSION: u64 = 7;

    fn running(nodes: &[NodeId]) -> impl Fn(NodeId) -> Found {
        move |id| match nodes.contains(&id) {
            true => Found::Running,
            false => Found::Silent,
        }
    }

    fn shard(wanted: &[NodeId], settled: u64, voters: &[NodeId], behind: &[NodeId]) -> Shard {
        Shard {
            wanted: wanted.to_vec(),
            report: Some(LeadReport {
                term: 1,
                settled,
                behind: behind.iter().map(|id| (*id, 9_000)).collect(),
                voters: voters.to_vec(),
            }),
            version: VERSION,
        }
    }

    fn map(version: u64) -> Arc<MetaState> {
        let map = ClusterMap {
            version,
            ..ClusterMap::default()
        };
        Arc::new(MetaState::new(Some(map), BTreeMap::new()))
    }

    #[tokio::test]
    async fn what_an_older_map_was_refused_for_is_asked_again_by_a_newer_one_only() {
        let meta = watch::Sender::new(map(VERSION));
        assert!(!is_newer(&meta.subscribe(), VERSION, Instant::now()).await);
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let watch = meta.subscribe();
        let mut newer = Box::pin(is_newer(&watch, VERSION, deadline));
        assert!(futures::poll!(&mut newer).is_pending());
        meta.send_replace(map(VERSION + 1));
        assert!(newer.await);
        assert!(is_newer(&meta.subscribe(), VERSION, deadline).await);
    }

    #[test]
    fn a_node_leaves_only_shards_that_have_a_live_majority_without_it() {
        let three = shard(&[ONE, TWO, THREE], VERSION, &[], &[]);
        assert!(three.may_leave(ONE, running(&[TWO, THREE])).is_ok());
        assert!(three.may_leave(ONE, running(&[ONE, TWO])).is_err());
        assert!(three.may_leave(FOUR, running(&[])).is_ok());
        let behind = shard(&[ONE, TWO, THREE], VERSION, &[], &[THREE]);
        let all = [ONE, TWO, THREE];
        assert!(behind.may_leave(ONE, running(&all)).is_err());
        assert!(behind.may_leave(THREE, running(&all)).is_ok());
    }

    /// Each of three nodes has a replica that has stopped, of another shard: they would wait for each other.
    #[test]
    fn a_node_leaves_a_shard_that_has_stopped_elsewhere_while_it_runs_there() {
        let shard = shard(&[ONE, TWO, THREE], VERSION, &[], &[TWO]);
        let found = |stopped: &'static [NodeId]| {
            move |id| match stopped.contains(&id) {
                true => Found::Stopped,
                false => Found::Running,
            }
        };
        assert!(shard.may_leave(ONE, found(&[TWO])).is_ok());
        assert!(shard.may_leave(TWO, found(&[TWO])).is_ok());
        assert!(shard.may_leave(ONE, found(&[TWO, THREE])).is_err());
        assert!(shard.may_leave(ONE, found(&[ONE, TWO])).is_err());
    }

    #[test]
    fn nobody_leaves_before_the_shard_is_settled_by_the_newest_map() {
        let all = [ONE, TWO, THREE, FOUR];
        for settled in [VERSION, VERSION + 1] {
            let shard = shard(&[ONE, TWO, THREE], settled, &[], &[]);
            assert!(shard.may_leave(ONE, running(&all)).is_ok());
        }
        for unsettled in [
            shard(&[ONE, TWO, THREE], VERSION - 1, &[], &[]),
            shard(&[FOUR, TWO, THREE], 0, &[ONE, TWO, THREE], &[]),
            shard(&[FOUR, TWO, THREE], 0, &[ONE, TWO, THREE, FOUR], &[]),
        ] {
            let refused = unsettled.may_leave(TWO, running(&all));
            assert!(matches!(refused, Err((_, true))), "{refused:?}");
        }
        let leaderless = Shard {
            report: None,
            ..shard(&[ONE, TWO, THREE], VERSION, &[], &[])
        };
        assert!(leaderless.may_leave(FOUR, running(&all)).is_err());
    }

    #[test]
    fn a_replacement_that_died_before_it_had_a_vote_can_be_replaced() {
        let moving = shard(&[FOUR, TWO, THREE], 0, &[ONE, TWO, THREE], &[FOUR]);
        assert!(moving.may_leave(FOUR, running(&[ONE, TWO, THREE])).is_ok());
        assert!(moving.may_leave(FOUR, running(&[THREE])).is_err());
    }

    #[test]
    fn the_last_replicas_may_move_while_they_answer() {
        let one = shard(&[ONE], VERSION, &[], &[]);
        assert!(one.may_leave(ONE, running(&[ONE])).is_ok());
        assert!(one.may_leave(ONE, running(&[])).is_err());
        let two = shard(&[ONE, TWO], VERSION, &[], &[]);
        assert!(two.may_leave(ONE, running(&[ONE, TWO])).is_ok());
        assert!(two.may_leave(ONE, running(&[TWO])).is_err());
    }
}
