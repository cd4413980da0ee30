//! What nodes say of themselves, every second and at each change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::common::v1::VersionRange;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{GatewayLink, LeaderAnnouncement, NodeHealth};
use tokio::time::{Duration, Instant};

/// Nodes announce themselves every second; one that has missed a few is taken for unreachable.
const HEARD_WITHIN: Duration = Duration::from_secs(4);

/// What a leader says of its shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadReport {
    /// In which it leads.
    pub term: u64,
    /// The version of the cluster map by which the shard's replicas are those wanted; 0 while they are not.
    pub settled: u64,
    /// Replicas whose log is not near the leader's, and how many entries they lack.
    pub behind: BTreeMap<NodeId, u64>,
    /// Who votes while it is not settled, of both sets while they change.
    pub voters: Vec<NodeId>,
}

/// What a node said last.
#[derive(Debug, Clone)]
pub struct Heard {
    at: Instant,
    leaving: bool,
    unsteady_until: Instant,
    /// The feature levels that its program speaks.
    pub levels: Option<VersionRange>,
    /// Its program.
    pub version: String,
    /// Its replicas that have stopped by themselves, and why.
    pub stopped: BTreeMap<ShardId, String>,
    /// The shards that it leads.
    pub leads: BTreeMap<ShardId, LeadReport>,
    /// By its cluster map of this version, this node was replaced; 0 if it was not.
    pub replaced_us: u64,
    /// What it has found out about itself.
    pub health: NodeHealth,
}

/// What all nodes said last. Cheap to clone.
#[derive(Clone, Default)]
pub struct HeardNodes {
    nodes: Arc<Mutex<BTreeMap<NodeId, Heard>>>,
}

impl HeardNodes {
    /// A node announced itself.
    pub(super) fn hear(&self, from: NodeId, said: &LeaderAnnouncement) {
        let now = Instant::now();
        let leads = said.leads.iter().map(|lead| {
            let report = LeadReport {
                term: lead.term,
                settled: lead.settled,
                behind: (lead.behind.iter())
                    .map(|behind| (NodeId(behind.node_id), behind.entries))
                    .collect(),
                voters: lead.voters.iter().copied().map(NodeId).collect(),
            };
            (ShardId(lead.shard), report)
        });
        let stopped = said.stopped.iter();
        let heard = Heard {
            at: now,
            leaving: said.leaving,
            unsteady_until: now + Duration::from_millis(said.unsteady_ms.into()),
            levels: said.levels,
            version: said.version.clone(),
            stopped: stopped
                .map(|s| (ShardId(s.shard), s.reason.clone()))
                .collect(),
            leads: leads.collect(),
            replaced_us: said.receiver_replaced,
            health: said.health.clone().unwrap_or_default(),
        };
        self.nodes.lock().insert(from, heard);
    }

    /// What a node said, if it said anything lately.
    pub fn of(&self, node: NodeId) -> Option<Heard> {
        let nodes = self.nodes.lock();
        let heard = nodes.get(&node).filter(|heard| heard.is_recent());
        heard.cloned()
    }

    /// The nodes that have announced themselves lately, those about to stop too.
    pub(super) fn lately(&self) -> Vec<NodeId> {
        let nodes = self.nodes.lock();
        let recent = nodes.iter().filter(|(_, heard)| heard.is_recent());
        recent.map(|(id, _)| *id).collect()
    }

    /// What the clocks of the nodes heard lately say at this moment.
    pub(super) fn clocks(&self) -> Vec<(NodeId, i64)> {
        let nodes = self.nodes.lock();
        let said = |heard: &Heard| heard.is_recent() && heard.health.time_ms > 0;
        let recent = nodes.iter().filter(|(_, heard)| said(heard));
        let now = |heard: &Heard| {
            let since = i64::try_from(heard.at.elapsed().as_millis()).unwrap_or(i64::MAX);
            heard.health.time_ms.saturating_add(since)
        };
        recent.map(|(id, heard)| (*id, now(heard))).collect()
    }

    /// Whether a node has announced itself lately, and does not stop.
    pub fn is_heard(&self, node: NodeId) -> bool {
        self.is_heard_within(node, HEARD_WITHIN)
    }

    /// Whether a node has announced itself in the time given, and does not stop.
    pub(super) fn is_heard_within(&self, node: NodeId, time: Duration) -> bool {
        let nodes = self.nodes.lock();
        nodes
            .get(&node)
            .is_some_and(|heard| !heard.leaving && heard.at.elapsed() < time)
    }

    /// Whether a node has lost leaderships lately, so that it should not be handed any.
    pub(super) fn is_unsteady(&self, node: NodeId) -> bool {
        let nodes = self.nodes.lock();
        nodes
            .get(&node)
            .is_some_and(|heard| Instant::now() < heard.unsteady_until)
    }

    /// The nodes that say that a gateway acknowledges what they send it.
    pub(super) fn reached_by_gateways(&self, waiting_max: Duration) -> BTreeSet<NodeId> {
        let nodes = self.nodes.lock();
        let is_well = |link: &GatewayLink| {
            link.connected && Duration::from_millis(link.waiting_ms) < waiting_max
        };
        let reached = |heard: &Heard| heard.is_recent() && heard.health.links.iter().any(is_well);
        let reached = nodes.iter().filter(|(_, heard)| reached(heard));
        reached.map(|(id, _)| *id).collect()
    }

    /// Whether a node's replica of a shard has stopped by itself, as far as the node has said.
    pub fn has_stopped(&self, node: NodeId, shard: ShardId) -> bool {
        let nodes = self.nodes.lock();
        let heard = nodes.get(&node);
        heard.is_some_and(|heard| heard.stopped.contains_key(&shard))
    }

    /// What the newest leader of a shard says of it.
    pub fn report(&self, shard: ShardId) -> Option<LeadReport> {
        let nodes = self.nodes.lock();
        let recent = nodes.values().filter(|heard| heard.is_recent());
        recent
            .filter_map(|heard| heard.leads.get(&shard))
            .max_by_key(|report| report.term)
            .cloned()
    }

    /// The newest cluster map by which this node was replaced; 0 if nobody says so.
    pub(super) fn replaced_us(&self) -> u64 {
        let nodes = self.nodes.lock();
        let said = nodes.values().map(|heard| heard.replaced_us);
        said.max().unwrap_or(0)
    }
}

impl Heard {
    /// How far its clock is ahead of one that shows `now_ms`; below 0: behind. 0 if it did not say.
    pub fn clock_ahead_ms(&self, now_ms: i64) -> i64 {
        let said = self.health.time_ms;
        if said == 0 {
            return 0;
        }
        let since = i64::try_from(self.at.elapsed().as_millis()).unwrap_or(i64::MAX);
        said.saturating_add(since).saturating_sub(now_ms)
    }

    fn is_recent(&self) -> bool {
        self.at.elapsed() < HEARD_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::raft::v1::Leads;

    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn lead(shard: u32, term: u64, settled: u64) -> LeaderAnnouncement {
        LeaderAnnouncement {
            leads: vec![Leads {
                shard,
                term,
                settled,
                ..Leads::default()
            }],
            ..LeaderAnnouncement::default()
        }
    }

    #[tokio::test]
    async fn the_newest_leader_speaks_for_its_shard() {
        let heard = HeardNodes::default();
        heard.hear(ONE, &lead(3, 7, 20));
        heard.hear(TWO, &lead(3, 8, 0));
        assert_eq!(heard.report(ShardId(3)).unwrap().settled, 0);
        assert!(heard.report(ShardId(4)).is_none());
        heard.hear(TWO, &LeaderAnnouncement::default());
        assert_eq!(heard.report(ShardId(3)).unwrap().settled, 20);
    }

    #[tokio::test]
    async fn who_is_about_to_stop_is_given_nothing_more() {
        let heard = HeardNodes::default();
        heard.hear(ONE, &LeaderAnnouncement::default());
        assert!(heard.is_heard(ONE) && !heard.is_heard(TWO) && !heard.is_unsteady(ONE));
        let leaving = LeaderAnnouncement {
            leaving: true,
            unsteady_ms: 60_000,
            ..LeaderAnnouncement::default()
        };
        heard.hear(ONE, &leaving);
        assert!(!heard.is_heard(ONE) && heard.is_unsteady(ONE));
        assert_eq!(heard.lately(), [ONE]);
    }
}
