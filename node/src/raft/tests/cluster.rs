//! Three nodes in one process, over QUIC.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parlance_proto::ids::NodeId;

use super::fixture::*;
use crate::raft::*;
use crate::store::manifest::Existing;
use crate::store::rocks::RocksStore;

pub(super) struct Cluster {
    dir: tempfile::TempDir,
    pub(super) authority: Authority,
    pub(super) directory: Arc<Nodes>,
    pub(super) nodes: Vec<TestNode>,
    config: RaftConfig,
}

impl Cluster {
    pub(super) async fn start(config: RaftConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let directory = Arc::new(Nodes::default());
        let mut cluster = Self {
            dir,
            authority,
            directory,
            nodes: Vec::new(),
            config,
        };
        for id in 1..=3 {
            cluster.add(NodeId(id)).await;
        }
        for shard in SHARDS {
            cluster.nodes[0]
                .shard(shard)
                .initialize(node_ids(1..=3))
                .await
                .unwrap();
        }
        cluster
    }

    pub(super) async fn add(&mut self, id: NodeId) {
        let config = self.config.clone();
        self.nodes.push(
            TestNode::start(
                self.dir.path(),
                &self.authority,
                &self.directory,
                id,
                config,
            )
            .await,
        );
    }

    pub(super) async fn stop_leader(&mut self) -> NodeId {
        let id = leader(&self.nodes, ONE).await.id;
        let place = self.nodes.iter().position(|node| node.id == id).unwrap();
        self.nodes.remove(place).stop().await;
        id
    }

    /// All nodes come back with what was on their disks.
    pub(super) async fn cut_power(&mut self) {
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let place = |id: &NodeId, name: &str| self.dir.path().join(format!("{name}-{id}"));
        for id in &ids {
            copy_dir(&place(id, "node"), &place(id, "copy"));
        }
        for node in self.nodes.drain(..) {
            node.stop().await;
        }
        for id in &ids {
            eventually("nobody has the store open", || {
                RocksStore::open(&place(id, "node").join("state"), Existing::No).ok()
            })
            .await;
            std::fs::remove_dir_all(place(id, "node")).unwrap();
            std::fs::rename(place(id, "copy"), place(id, "node")).unwrap();
        }
        for id in ids {
            self.add(id).await;
        }
    }

    /// Stops all nodes in good order and starts them again.
    pub(super) async fn restart(&mut self) {
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        for node in self.nodes.drain(..) {
            node.stop().await;
        }
        for id in ids {
            self.add(id).await;
        }
    }

    /// Files and folders that belong to snapshots of shard 1 on a node.
    pub(super) fn snapshot_files(&self, id: NodeId) -> usize {
        let dir = self.dir.path().join(format!("node-{id}/snapshots/1"));
        std::fs::read_dir(dir).unwrap().count()
    }

    async fn agree(&self, count: usize) {
        for shard in SHARDS {
            let expected = eventually("all rows on the first node", || {
                let rows = recorded(&*self.nodes[0].store, shard);
                (rows.len() == count).then_some(rows)
            })
            .await;
            for node in &self.nodes {
                eventually("equal rows", || {
                    (recorded(&*node.store, shard) == expected).then_some(())
                })
                .await;
            }
        }
    }

    pub(super) async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

/// With one thread for all tasks: a store that held it up would hold up the timers of all shards.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_that_takes_its_time_holds_up_nobody_else() {
    let cluster = Cluster::start(config()).await;
    propose(&cluster.nodes, ONE, "first").await;
    let leader = leader(&cluster.nodes, ONE).await;
    let (go_on, held) = std::sync::mpsc::sync_channel(1);
    *leader.store.held.lock() = Some(held);
    let shard = leader.shard(ONE);
    let proposal = tokio::spawn(async move { shard.propose(Bytes::from("held")).await });
    let store = leader.store.clone();
    let holds = move || store.holds.load(Ordering::SeqCst);
    eventually("the store takes its time", || holds().then_some(())).await;
    let meanwhile = tokio::spawn(async move { holds() });
    assert!(meanwhile.await.unwrap(), "no task ran while it did");
    go_on.send(()).unwrap();
    proposal.await.unwrap().unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_survive_a_failover_and_a_restart() {
    let mut cluster = Cluster::start(config()).await;
    for number in 0..50 {
        for shard in SHARDS {
            propose(&cluster.nodes, shard, &format!("{number}")).await;
        }
    }
    cluster.agree(50).await;
    let gone = cluster.stop_leader().await;
    for shard in SHARDS {
        propose(&cluster.nodes, shard, "after").await;
        leader(&cluster.nodes, shard)
            .await
            .shard(shard)
            .read_barrier()
            .await
            .unwrap();
    }
    cluster.agree(51).await;
    cluster.add(gone).await;
    cluster.agree(51).await;

    // All at once, and again.
    let ids: Vec<NodeId> = cluster.nodes.iter().map(|node| node.id).collect();
    for node in cluster.nodes.drain(..) {
        node.stop().await;
    }
    for id in ids {
        cluster.add(id).await;
    }
    for shard in SHARDS {
        propose(&cluster.nodes, shard, "again").await;
    }
    cluster.agree(52).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_long_catches_up_by_a_snapshot() {
    let config = RaftConfig {
        snapshot_entries: 100,
        keep_entries: 10,
        ..config()
    };
    let mut cluster = Cluster::start(config).await;
    propose(&cluster.nodes, ONE, "first").await;
    propose(&cluster.nodes, TWO, "first").await;
    let gone = cluster.stop_leader().await;
    for shard in SHARDS {
        let leader = leader(&cluster.nodes, shard).await.shard(shard);
        propose(&cluster.nodes, shard, "warm").await;
        for batch in 0..20 {
            let batch = (0..50).map(|n| leader.propose(Bytes::from(format!("{batch} {n}"))));
            futures::future::try_join_all(batch).await.unwrap();
        }
        eventually("the log is purged", || {
            (leader.status().purged > 500).then_some(())
        })
        .await;
    }
    cluster.add(gone).await;
    cluster.agree(1002).await;
    let newcomer = cluster.nodes.last().unwrap();
    // The status is told by another task than the one that installs.
    eventually("the snapshot shows", || {
        (newcomer.shard(ONE).status().snapshot > 500).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_learns_and_replaces_another() {
    let mut cluster = Cluster::start(config()).await;
    for shard in SHARDS {
        for number in 0..20 {
            propose(&cluster.nodes, shard, &format!("{number}")).await;
        }
    }
    cluster.add(NodeId(4)).await;
    let gone = cluster.stop_leader().await;
    let voters: BTreeSet<NodeId> = node_ids((1..=4).filter(|id| NodeId(*id) != gone));
    for shard in SHARDS {
        propose(&cluster.nodes, shard, "more").await;
        let leader = leader(&cluster.nodes, shard).await.shard(shard);
        leader.add_learner(NodeId(4)).await.unwrap();
        assert!(leader.status().learners.contains(&NodeId(4)));
        leader.change_voters(voters.clone()).await.unwrap();
        assert_eq!(leader.status().voters, voters);
    }
    cluster.agree(21).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_of_long_standing_that_hands_over_does_not_stand_again() {
    let lease = Duration::from_millis(1_000);
    let settings = RaftConfig {
        lease_ms: 1_000,
        ..config()
    };
    let cluster = Cluster::start(settings).await;
    propose(&cluster.nodes, ONE, "first").await;
    for _ in 0..3 {
        let old = leader(&cluster.nodes, ONE).await;
        let (term, since) = (old.shard(ONE).term(), tokio::time::Instant::now());
        eventually(
            "a leadership older than a lease and the turns behind it",
            || (since.elapsed() > lease * 2).then_some(()),
        )
        .await;
        let successor = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
        old.shard(ONE).transfer_leader(successor.id).await;
        eventually("the successor leads", || {
            successor
                .shard(ONE)
                .leadership()
                .borrow()
                .leading
                .then_some(())
        })
        .await;
        propose(&cluster.nodes, ONE, "later").await;
        assert_eq!(successor.shard(ONE).term(), term + 1);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_without_an_election_timeout() {
    let slow = RaftConfig {
        lease_ms: 6_000,
        ..config()
    };
    let cluster = Cluster::start(slow).await;
    propose(&cluster.nodes, ONE, "first").await;
    let old = leader(&cluster.nodes, ONE).await;
    let successor = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
    eventually("the leader's lease", || {
        old.shard(ONE).holds_lease().then_some(())
    })
    .await;
    assert!(!successor.shard(ONE).holds_lease());
    let started = tokio::time::Instant::now();
    old.shard(ONE).transfer_leader(successor.id).await;
    assert!(
        !old.shard(ONE).holds_lease(),
        "what is offered to another proves nothing"
    );
    eventually("the successor leads", || {
        successor
            .shard(ONE)
            .leadership()
            .borrow()
            .leading
            .then_some(())
    })
    .await;
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    let refused = old.shard(ONE).propose(Bytes::from_static(b"late")).await;
    assert!(
        matches!(refused, Err(ProposeError::NotLeader { .. })),
        "{refused:?}"
    );
    assert!(matches!(
        old.shard(ONE).read_barrier().await,
        Err(ReadError::NotLeader { .. })
    ));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nobody_serves_no_reads() {
    let cluster = Cluster::start(config()).await;
    propose(&cluster.nodes, ONE, "first").await;
    let alone = leader(&cluster.nodes, ONE).await;
    eventually("its lease", || alone.shard(ONE).holds_lease().then_some(())).await;
    for other in cluster.nodes.iter().filter(|node| node.id != alone.id) {
        other.link.detach();
    }
    eventually("the end of its lease", || {
        (!alone.shard(ONE).holds_lease()).then_some(())
    })
    .await;
    // The library's own lease is longer than what is relied on for relays.
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        while alone.shard(ONE).read_barrier().await.is_ok() {}
    });
    ended.await.unwrap();
    assert!(alone.shard(ONE).read_barrier().await.is_err());
    assert!(!alone.shard(ONE).holds_lease());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_is_a_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let directory = Arc::new(Nodes::default());
    for round in 1..=2 {
        let node = TestNode::start(dir.path(), &authority, &directory, NodeId(1), config()).await;
        node.shard(ONE).initialize(node_ids([1])).await.unwrap();
        let nodes = [node];
        propose(&nodes, ONE, "alone").await;
        nodes[0].shard(ONE).read_barrier().await.unwrap();
        assert_eq!(recorded(&*nodes[0].store, ONE).len(), round);
        let [node] = nodes;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_killed_reads_nothing_old_when_it_is_back() {
    let mut cluster = Cluster::start(config()).await;
    for number in 0..50 {
        propose(&cluster.nodes, ONE, &format!("{number}")).await;
    }
    // What a kill leaves: the log is on disk, the rows and the newest commit mark are not.
    let left = cluster.dir.path().join("left");
    for id in 1..=3 {
        let name = format!("node-{id}");
        copy_dir(&cluster.dir.path().join(&name), &left.join(&name));
    }
    for node in cluster.nodes.drain(..) {
        node.stop().await;
    }
    for id in 1..=3 {
        let (authority, directory) = (&cluster.authority, &cluster.directory);
        let node = TestNode::start(&left, authority, directory, NodeId(id), config()).await;
        assert!(recorded(&*node.store, ONE).len() < 50);
        cluster.nodes.push(node);
    }
    let read = async {
        loop {
            for node in &cluster.nodes {
                if node.shard(ONE).read_barrier().await.is_ok() {
                    return recorded(&*node.store, ONE).len();
                }
            }
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    assert_eq!(read.unwrap(), 50);
    cluster.stop().await;
}
