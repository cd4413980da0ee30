//! The way to the nodes: what is known of the cluster, and one link for each of its nodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::link::v1::{
    ClusterUpdate, Publish, ShardRoute, gateway_answer, gateway_question,
};
use parlance_tls::{ClusterTls, Connections};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::client::{Link, PublishSink};
use super::dial::Dialler;
use super::questions::Answerer;
use super::requests::Requests;
use super::topology::Topology;
use crate::bounds::Budget;
use crate::metrics::FEATURE_LEVEL;

/// Bytes that all links keep to resume where they broke.
const REPLAY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Links by node, and the task of each.
type Links = HashMap<NodeId, (Arc<Link>, AbortHandle)>;

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    pub node: NodeId,
    pub is_up: bool,
    /// How long the oldest frame that the node has not acknowledged has waited.
    pub waiting: Duration,
}

/// The way to the nodes.
pub struct Router {
    gateway_id: String,
    instance_id: String,
    dialler: Dialler,
    /// Why the last try of each link that is down failed.
    refused: Mutex<BTreeMap<NodeId, String>>,
    pub(super) topology: watch::Sender<Topology>,
    /// None once closed.
    links: Mutex<Option<Links>>,
    sink: OnceLock<PublishSink>,
    answerer: OnceLock<Answerer>,
    replays: Arc<Budget>,
    me: Weak<Router>,
}

impl Router {
    /// A router that knows no node yet.
    pub fn new(gateway_id: String, tls: Arc<ClusterTls>) -> Arc<Self> {
        let dialler = Dialler {
            tls,
            connections: Connections::default(),
        };
        Arc::new_cyclic(|me| Self {
            gateway_id,
            // Of two processes with one gateway id the one that started first is the smaller.
            instance_id: Uuid::now_v7().to_string(),
            dialler,
            refused: Mutex::default(),
            topology: watch::Sender::new(Topology::default()),
            links: Mutex::new(Some(HashMap::new())),
            sink: OnceLock::new(),
            answerer: OnceLock::new(),
            replays: Budget::new(REPLAY_BYTES_MAX),
            me: me.clone(),
        })
    }

    /// Who takes what nodes push; set once, before any link is up.
    pub fn set_sink(&self, sink: PublishSink) {
        let _ = self.sink.set(sink);
    }

    /// Who answers what operators ask of this gateway; set once, before any link is up.
    pub fn set_answerer(&self, answerer: Answerer) {
        let _ = self.answerer.set(answerer);
    }

    pub(super) fn answer(&self, question: gateway_question::Body) -> Option<gateway_answer::Body> {
        self.answerer.get().map(|answerer| answerer(question))
    }

    /// What is known of the cluster, and its changes.
    pub fn topology(&self) -> watch::Receiver<Topology> {
        self.topology.subscribe()
    }

    /// A short look at what is known of the cluster.
    pub fn with_topology<T>(&self, look: impl FnOnce(&Topology) -> T) -> T {
        look(&self.topology.borrow())
    }

    /// Whether at least one node can be asked.
    pub fn linked(&self) -> bool {
        self.with_topology(|topology| !topology.link_sessions.is_empty())
    }

    /// How the link to each node is, in the order of their ids.
    pub fn link_states(&self) -> Vec<LinkState> {
        let up = self.with_topology(|topology| topology.link_sessions.clone());
        let links = self.links.lock();
        let mut states: Vec<_> = (links.iter().flatten())
            .map(|(node, (link, _))| {
                let waits = *link.waits.lock();
                LinkState {
                    node: *node,
                    is_up: up.contains_key(node),
                    waiting: waits.map_or(Duration::ZERO, |since| since.elapsed()),
                }
            })
            .collect();
        states.sort_unstable_by_key(|state| state.node);
        states
    }

    /// A leader said so itself.
    pub fn lead(&self, shard: ShardId, node: NodeId, term: u64) {
        self.topology
            .send_if_modified(|topology| topology.lead(shard, node, term));
    }

    /// Ends all links, for good.
    pub fn close(&self) {
        for (_, (link, task)) in self.links.lock().take().unwrap_or_default() {
            task.abort();
            link.requests.lost();
        }
    }

    /// What the links keep for a resume, all together.
    pub(super) fn replays(&self) -> &Arc<Budget> {
        &self.replays
    }

    /// Why no link is up, as far as the last tries say.
    pub fn refusals(&self) -> String {
        let refused = self.refused.lock();
        let said = refused
            .iter()
            .map(|(node, why)| format!("node {node}: {why}"));
        said.collect::<Vec<_>>().join("; ")
    }

    pub(super) fn dialler(&self) -> &Dialler {
        &self.dialler
    }

    pub(super) fn instance_id(&self) -> &str {
        &self.instance_id
    }

    pub(super) fn gateway_id(&self) -> &str {
        &self.gateway_id
    }

    pub(super) fn publish(&self, publish: &Publish) {
        if let Some(sink) = self.sink.get() {
            sink(publish);
        }
    }

    pub(super) fn merge(&self, update: ClusterUpdate) {
        let mut denied_anew = false;
        self.topology.send_if_modified(|topology| {
            let changed = topology.merge(update).unwrap_or_else(|error| {
                tracing::error!(%error, "cluster state refused");
                false
            });
            // Under the lock: of two that merge at once the older list does not come last.
            denied_anew = self.dialler.tls.deny(topology.denied.clone());
            metrics::gauge!(FEATURE_LEVEL).set(topology.feature_level);
            changed
        });
        if denied_anew {
            self.dialler.connections.cut(self.dialler.tls.denied());
        }
        self.fit_links();
    }

    /// A shard said who owns slots now; true if that was news.
    pub(super) fn add_routes(&self, routes: &[ShardRoute]) -> bool {
        self.topology
            .send_if_modified(|topology| topology.add_routes(routes))
    }

    pub(super) fn link_opened(&self, node: NodeId, link_session: u64) {
        self.refused.lock().remove(&node);
        self.topology.send_modify(|topology| {
            topology.link_sessions.insert(node, link_session);
        });
    }

    /// A link did not open.
    pub(super) fn link_refused(&self, node: NodeId, why: String) {
        self.refused.lock().insert(node, why);
        self.link_lost(node);
        // One to a node that was replaced is not tried again.
        if self.with_topology(|topology| !topology.nodes.contains_key(&node)) {
            self.fit_links();
        }
    }

    fn link_lost(&self, node: NodeId) {
        self.topology
            .send_if_modified(|topology| topology.unlink(node));
    }

    pub(super) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        let links = self.links.lock();
        let (link, _) = links.as_ref()?.get(&node)?;
        Some(link.clone())
    }

    /// One link for each node of the cluster. A node that was replaced may lead shards until others have learned them: its link
    /// stays until it breaks.
    fn fit_links(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let mut gone = Vec::new();
        let mut links = self.links.lock();
        let Some(open) = &mut *links else { return };
        // Read under the lock: of two that fit at once the second sees what the first saw, or more.
        let (nodes, up) = self.with_topology(|t| (t.nodes.clone(), t.link_sessions.clone()));
        open.retain(|node, (link, task)| {
            let stays = match nodes.get(node) {
                Some(address) => *address == link.address,
                None => up.contains_key(node),
            };
            if !stays {
                task.abort();
                link.requests.lost();
                gone.push(*node);
            }
            stays
        });
        for (node, address) in nodes {
            open.entry(node).or_insert_with(|| {
                let link = Arc::new(Link {
                    node,
                    address,
                    requests: Requests::default(),
                    waits: Mutex::default(),
                });
                let task = tokio::spawn(link.clone().run(me.clone())).abort_handle();
                (link, task)
            });
        }
        drop(links);
        for node in gone {
            self.refused.lock().remove(&node);
            self.link_lost(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use parlance_proto::link::v1::{DeniedCertificates, Node};
    use parlance_proto::tls::Role;
    use parlance_testkit::certs::Authority;

    use super::*;

    fn map(version: u64, nodes: &[u64]) -> ClusterUpdate {
        let node = |id: &u64| Node {
            node_id: *id,
            link_address: "127.0.0.1:1".into(),
        };
        ClusterUpdate {
            cluster_id: "cluster".into(),
            map_version: version,
            nodes: nodes.iter().map(node).collect(),
            ..ClusterUpdate::default()
        }
    }

    /// Nothing is waited for here, so that no link is dialled.
    #[tokio::test]
    async fn a_link_to_a_replaced_node_stays_until_it_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let files = authority.issue("gateway", Role::Gateway("gateway".into()));
        let router = Router::new("gateway".into(), ClusterTls::open(&files.unwrap()).unwrap());
        let (up, down) = (NodeId(1), NodeId(2));
        router.merge(map(1, &[1, 2, 3]));
        router.link_opened(up, 1);
        router.merge(map(2, &[3]));
        assert!(router.link(up).is_some());
        assert!(router.link(down).is_none(), "it was not up");
        router.link_refused(up, "gone".into());
        assert!(router.link(up).is_none());
        assert!(router.link(NodeId(3)).is_some());
        assert_eq!(router.refusals(), "");
    }

    const ROUNDS: u64 = 20_000;

    #[tokio::test]
    async fn of_two_nodes_that_tell_at_once_the_newer_deny_list_counts() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        let files = authority.issue("g", Role::Gateway("g".into())).unwrap();
        let router = Router::new("g".into(), ClusterTls::open(&files).unwrap());
        let update = |map_version: u64| ClusterUpdate {
            cluster_id: "c".into(),
            map_version,
            nodes: vec![Node {
                node_id: 1,
                link_address: "127.0.0.1:1".into(),
            }],
            denied: Some(DeniedCertificates {
                serials: vec![map_version.to_be_bytes().to_vec().into()],
            }),
            ..ClusterUpdate::default()
        };
        router.merge(update(1));
        let together = Barrier::new(2);
        let wrong = std::thread::scope(|scope| {
            let tells = |first| {
                let (router, together, update) = (&router, &together, &update);
                scope.spawn(move || {
                    let mut wrong = 0;
                    for round in 1..=ROUNDS {
                        together.wait();
                        router.merge(update(2 * round + first));
                        together.wait();
                        let known = router.with_topology(|t| t.denied.clone());
                        let denied = router.dialler.tls.denied();
                        wrong += u64::from(!known.iter().all(|serial| denied.contains(serial)));
                    }
                    wrong
                })
            };
            let threads = [tells(0), tells(1)];
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(wrong, [0, 0], "of {ROUNDS} times");
        router.close();
    }
}
