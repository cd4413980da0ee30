//! Tells all nodes what this one leads and how it is: at every change, every second, and when it is about to stop.

use std::sync::Arc;

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    Behind, CertificateInUse, LeaderAnnouncement, Leads, NodeHealth, StoppedReplica,
    peer_message::Body,
};
use parlance_proto::store::v1::{MapNode, NodeState};
use parlance_proto::tls::CertificateFacts;
use parlance_proto::version::greeting;
use parlance_tls::ClusterTls;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::levels::levels;
use super::steadiness::Steadiness;
use super::tasks::Tasks;
use super::view::ClusterView;
use super::vitals::Vitals;
use super::wanted::{Wanted, is_near};
use crate::meta::MetaState;
use crate::raft::{Lane, PeerLink, Replica, ReplicaStatus};

const INTERVAL: Duration = Duration::from_secs(1);
/// Changes that come together go out together.
const GATHER: Duration = Duration::from_millis(5);

pub(super) struct Announcer {
    pub(super) view: ClusterView,
    pub(super) peers: Arc<dyn PeerLink>,
    pub(super) tls: Arc<ClusterTls>,
    pub(super) steadiness: Steadiness,
    /// The node is about to stop.
    pub(super) leaving: CancellationToken,
    pub(super) vitals: Vitals,
    pub(super) tasks: Tasks,
}

impl Announcer {
    pub(super) async fn run(self) {
        let mut meta = self.view.meta.clone();
        let mut leaders = self.view.leaders.watch();
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving = false;
        loop {
            let woken = async {
                tokio::select! {
                    () = self.leaving.cancelled(), if !leaving => {}
                    _ = ticks.tick() => {}
                    _ = leaders.changed() => sleep(GATHER).await,
                    // What was settled by the map before is to be found settled by this one.
                    _ = meta.changed() => sleep(GATHER).await,
                }
            };
            if self.tasks.or_stopped(woken).await.is_none() {
                return;
            }
            leaders.mark_unchanged();
            meta.mark_unchanged();
            leaving = self.leaving.is_cancelled();
            self.announce(leaving);
        }
    }

    fn announce(&self, leaving: bool) {
        let view = &self.view;
        let state = view.state();
        let said = self.announcement(&state, leaving);
        // It speaks for itself too: status has all nodes from one place.
        view.heard.hear(view.node_id, &said);
        let mut nodes: Vec<NodeId> = state.members().map(MapNode::id).collect();
        nodes.extend(view.heard.lately()); // replaced nodes too, until they are gone
        nodes.sort_unstable();
        nodes.dedup();
        for to in nodes.into_iter().filter(|id| *id != view.node_id) {
            // A new one may not be in this node's map yet.
            let node = state.node(to);
            let replaced = node.is_some_and(|node| node.state() == NodeState::Removed);
            let said = LeaderAnnouncement {
                receiver_replaced: if replaced { state.version() } else { 0 },
                ..said.clone()
            };
            self.peers
                .post(to, Lane::Control, ShardId::META, Body::Leaders(said));
        }
    }

    fn announcement(&self, state: &MetaState, leaving: bool) -> LeaderAnnouncement {
        let view = &self.view;
        let replicas = view.replicas();
        let led = view.leaders.led_by(view.node_id).into_iter();
        let leads = led.map(|(shard, term)| {
            // They are in the order of their numbers.
            let found = replicas.binary_search_by_key(&shard, Replica::id);
            let raft = found.ok().and_then(|place| replicas.get(place));
            lead(shard, term, raft, state, view.node_id)
        });
        let unsteady = self.steadiness.unsteady(Instant::now()).as_millis();
        LeaderAnnouncement {
            leads: leads.collect(),
            leaving,
            levels: greeting(levels()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unsteady_ms: u32::try_from(unsteady).unwrap_or(u32::MAX),
            stopped: replicas.iter().filter_map(stopped).collect(),
            receiver_replaced: 0,
            health: Some(NodeHealth {
                time_ms: self.view.clock.own.now_ms(),
                certificate: Some(certificate_in_use(&self.tls.certificate())),
                ..self.vitals.get()
            }),
        }
    }
}

/// For the announcement.
pub(super) fn certificate_in_use(facts: &CertificateFacts) -> CertificateInUse {
    CertificateInUse {
        serial: facts.serial.as_bytes().to_vec().into(),
        expires_s: facts.expires_s,
    }
}

fn lead(
    shard: ShardId,
    term: u64,
    raft: Option<&Replica>,
    state: &MetaState,
    node_id: NodeId,
) -> Leads {
    let mut lead = Leads {
        shard: shard.0,
        term,
        ..Leads::default()
    };
    if let Some(raft) = raft {
        let status = raft.status();
        let wanted = Wanted::of(state, shard);
        let settled =
            status.members_committed && wanted.is_some_and(|wanted| wanted.step(&status).is_none());
        lead.settled = if settled { state.version() } else { 0 };
        lead.behind = behind(&status, node_id);
        if !settled {
            lead.voters = status.voters.iter().map(|id| id.0).collect();
        }
    }
    lead
}

fn behind(status: &ReplicaStatus, leader: NodeId) -> Vec<Behind> {
    let others = status.voters.union(&status.learners).copied();
    others
        .filter(|id| *id != leader && !is_near(status, *id))
        .map(|id| Behind {
            node_id: id.0,
            // Of one that nothing is known of: all.
            entries: status.behind(id).unwrap_or(status.last_log_index),
        })
        .collect()
}

/// For the announcement, if it has.
fn stopped(raft: &Replica) -> Option<StoppedReplica> {
    let reason = raft.status().stopped?;
    Some(StoppedReplica {
        shard: raft.id().0,
        reason,
    })
}
