//! Snapshots among three nodes: made although the disk fails, sent although things go wrong, and followed to the end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use parlance_proto::raft::v1::{SnapshotChunk, SnapshotHeader, peer_message::Body};
use parlance_proto::store::v1::Vote;
use tokio::sync::mpsc;

use super::cluster::Cluster;
use super::fixture::*;
use crate::machine::state_without_log;
use crate::raft::snapshot::{FORMAT, range};
use crate::raft::*;

pub(super) fn short_logs() -> RaftConfig {
    RaftConfig {
        snapshot_entries: 100,
        keep_entries: 10,
        ..config()
    }
}

/// Proposes entries, many at a time.
pub(super) async fn fill(nodes: &[TestNode], batches: usize, bytes: usize) {
    let payload = Bytes::from(vec![7; bytes]);
    let leader = leader(nodes, ONE).await.shard(ONE);
    for _ in 0..batches {
        let batch = (0..50).map(|_| leader.propose(payload.clone()));
        futures::future::try_join_all(batch).await.unwrap();
    }
}

pub(super) async fn purged(shard: &Replica, index: u64) {
    eventually("the log is purged", || {
        (shard.status().purged > index).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_flush_stops_no_replica_and_purges_nothing() {
    let cluster = Cluster::start(short_logs()).await;
    propose(&cluster.nodes, ONE, "first").await;
    let full = |full| {
        let disks = cluster.nodes.iter().map(|node| &node.store.full);
        disks.for_each(|disk| disk.store(full, Ordering::SeqCst));
    };
    full(true);
    fill(&cluster.nodes, 10, 10).await;
    for node in &cluster.nodes {
        eventually("it applies everything", || {
            (node.shard(ONE).status().applied > 500).then_some(())
        })
        .await;
        let status = node.shard(ONE).status();
        assert_eq!((status.purged, status.stopped), (0, None));
        assert!(node.host.stopped().borrow().is_empty());
    }
    full(false);
    fill(&cluster.nodes, 5, 10).await;
    for node in &cluster.nodes {
        purged(&node.shard(ONE), 300).await;
        assert_eq!(cluster.snapshot_files(node.id), 0, "nothing is copied");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_the_disk_refuses_is_tried_again_before_the_replica_stops_and_says_so() {
    let cluster = Cluster::start(short_logs()).await;
    propose(&cluster.nodes, ONE, "first").await;
    let leader = leader(&cluster.nodes, ONE).await;
    let other = |node: &&TestNode| node.id != leader.id;
    let sick = cluster.nodes.iter().find(other).unwrap();
    let applies_all = async || {
        let last = propose(&cluster.nodes, ONE, "more").await.index;
        eventually("everything is applied", || {
            (sick.shard(ONE).status().applied >= last).then_some(())
        })
        .await;
    };
    sick.store.writes_fail.store(2, Ordering::SeqCst);
    applies_all().await;
    assert_eq!(sick.store.writes_fail.load(Ordering::SeqCst), 0);
    applies_all().await;
    assert!(sick.host.stopped().borrow().is_empty());

    sick.store.writes_fail.store(u32::MAX, Ordering::SeqCst);
    propose(&cluster.nodes, ONE, "too much").await;
    let mut stopped = sick.host.stopped();
    let told = stopped.wait_for(|stopped| stopped.contains_key(&ONE));
    let told = tokio::time::timeout(Duration::from_secs(30), told).await;
    assert!(told.is_ok(), "it stops in silence");
    propose(&cluster.nodes, ONE, "the others go on").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catching_up_under_writes_takes_one_snapshot_although_the_log_turns_over_meanwhile() {
    let mut cluster = Cluster::start(short_logs()).await;
    propose(&cluster.nodes, ONE, "first").await;
    let gone = cluster.stop_leader().await;
    propose(&cluster.nodes, ONE, "warm").await;
    fill(&cluster.nodes, 20, 10).await;
    let leader = leader(&cluster.nodes, ONE).await.shard(ONE);
    purged(&leader, 500).await;
    cluster.add(gone).await;
    let newcomer = cluster.nodes.last().unwrap();
    *newcomer.store.import_takes.lock() = Duration::from_secs(1);
    let before = leader.status().last_log_index;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while newcomer.shard(ONE).status().applied < before {
        assert!(tokio::time::Instant::now() < deadline, "never caught up");
        fill(&cluster.nodes, 1, 10).await;
    }
    assert!(
        leader.status().last_log_index > before + 200,
        "the log turned over"
    );
    assert_eq!(newcomer.imports(), 1);
    eventually("the log goes on being purged", || {
        (leader.status().purged > before).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_or_installation_that_fails_is_tried_again_and_stops_nobody() {
    let mut cluster = Cluster::start(short_logs()).await;
    propose(&cluster.nodes, ONE, "first").await;
    let gone = cluster.stop_leader().await;
    propose(&cluster.nodes, ONE, "warm").await;
    fill(&cluster.nodes, 20, 10).await;
    purged(&leader(&cluster.nodes, ONE).await.shard(ONE), 500).await;
    for node in &cluster.nodes {
        node.store.views_fail.store(2, Ordering::SeqCst);
    }
    cluster.add(gone).await;
    let newcomer = cluster.nodes.last().unwrap();
    newcomer.store.imports_fail.store(2, Ordering::SeqCst);
    eventually("it has everything", || {
        (newcomer.shard(ONE).status().applied > 1000).then_some(())
    })
    .await;
    assert_eq!(newcomer.imports(), 1);
    for node in &cluster.nodes {
        assert!(node.host.stopped().borrow().is_empty());
    }
    propose(&cluster.nodes, ONE, "and on").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_alive_but_far_behind_gets_a_snapshot_and_the_log_goes() {
    let config = RaftConfig {
        log_entries_max: 300,
        ..short_logs()
    };
    let cluster = Cluster::start(config).await;
    propose(&cluster.nodes, ONE, "first").await;
    let leader = leader(&cluster.nodes, ONE).await;
    let slow = cluster
        .nodes
        .iter()
        .find(|node| node.id != leader.id)
        .unwrap();
    *leader.peers.slow.lock() = Some((slow.id, Duration::from_secs(1)));
    // Each append holds a mebibyte: far less a second than is written.
    fill(&cluster.nodes, 40, 16 * 1024).await;
    eventually("a snapshot", || (slow.imports() > 0).then_some(())).await;
    *leader.peers.slow.lock() = None;
    eventually("it has everything", || {
        (slow.shard(ONE).status().applied > 2000).then_some(())
    })
    .await;
    fill(&cluster.nodes, 5, 10).await;
    purged(&leader.shard(ONE), 1900).await;
    cluster.stop().await;
}

/// Their rows are behind what they know to be committed, which nobody has lost: a leader that took them for far behind and waited
/// until its log is purged would wait for ever, since nothing is committed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_power_cut_a_leader_of_a_long_log_goes_on_and_the_log_goes() {
    let config = RaftConfig {
        snapshot_entries: 400,
        log_entries_max: 200,
        ..short_logs()
    };
    let mut cluster = Cluster::start(config).await;
    propose(&cluster.nodes, ONE, "first").await;
    // Never as many without a restart as a snapshot takes.
    fill(&cluster.nodes, 7, 10).await;
    cluster.restart().await;
    propose(&cluster.nodes, ONE, "second").await;
    fill(&cluster.nodes, 7, 10).await;
    cluster.cut_power().await;
    let third = propose(&cluster.nodes, ONE, "third");
    let third = tokio::time::timeout(Duration::from_secs(30), third).await;
    assert!(third.is_ok(), "nothing is committed");
    for node in &cluster.nodes {
        let shard = node.shard(ONE);
        assert!(shard.status().last_log_index > 700);
        purged(&shard, 500).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_snapshot_is_refused_while_one_arrives() {
    let cluster = Cluster::start(config()).await;
    propose(&cluster.nodes, ONE, "first").await;
    let leader = leader(&cluster.nodes, ONE).await;
    let follower = cluster
        .nodes
        .iter()
        .find(|node| node.id != leader.id)
        .unwrap();
    let header = SnapshotHeader {
        shard: 1,
        format: FORMAT,
        vote: Some(Vote {
            term: leader.shard(ONE).status().term,
            node_id: leader.id.0,
            committed: true,
        }),
        state: Some(state_without_log(&node_ids(1..=3))),
        ranges: row_ranges(ONE).iter().map(range).collect(),
    };
    let send = |chunks: mpsc::Receiver<SnapshotChunk>| {
        follower
            .host
            .inbound()
            .snapshot(leader.id, header.clone(), chunks)
    };
    let (first, chunks) = mpsc::channel(1);
    let mut arriving = send(chunks);
    assert!(
        (&mut arriving).now_or_never().is_none(),
        "it waits for rows"
    );
    let (_second, chunks) = mpsc::channel(1);
    let refused = send(chunks).await;
    assert!(refused.error.contains("busy"), "{refused:?}");
    drop(first);
    let cut_off = arriving.await;
    assert!(!cut_off.error.is_empty());
    let (third, chunks) = mpsc::channel(1);
    drop(third);
    assert!(
        !send(chunks).await.error.contains("busy"),
        "the place is free again"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_does_not_wait_until_a_snapshot_is_installed() {
    let mut cluster = Cluster::start(short_logs()).await;
    propose(&cluster.nodes, ONE, "first").await;
    let gone = cluster.stop_leader().await;
    propose(&cluster.nodes, ONE, "warm").await;
    fill(&cluster.nodes, 20, 10).await;
    let leading = leader(&cluster.nodes, ONE).await;
    purged(&leading.shard(ONE), 500).await;
    // Nobody sends a snapshot before its installation is held up.
    for node in &cluster.nodes {
        node.store.views_fail.store(u32::MAX, Ordering::SeqCst);
    }
    cluster.add(gone).await;
    let (go_on, held) = std::sync::mpsc::sync_channel(1);
    let newcomer = cluster.nodes.last().unwrap();
    *newcomer.store.import_held.lock() = Some(held);
    for node in &cluster.nodes {
        node.store.views_fail.store(0, Ordering::SeqCst);
    }
    let holds = || newcomer.store.holds.load(Ordering::SeqCst);
    eventually("a snapshot is being installed", || holds().then_some(())).await;

    let leading = leader(&cluster.nodes, ONE).await;
    let append = empty_append(leading.shard(ONE).status().term, leading.id);
    let answer = newcomer.host.inbound().handle(leading.id, ONE, append);
    let answer = answer.await;
    assert!(holds(), "it waited for the snapshot: {answer:?}");
    assert!(!matches!(answer, Body::AppendResponse(_)), "{answer:?}");

    go_on.send(()).unwrap();
    eventually("it has everything", || {
        (newcomer.shard(ONE).status().applied > 1000).then_some(())
    })
    .await;
    cluster.stop().await;
}
