//! What a leader may conclude from answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::peer_message::Body;
use tokio::sync::watch;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::fixture::*;
use super::slow_link::Fate;
use super::snapshots::{fill, purged, short_logs};
use crate::raft::pulse;
use crate::raft::*;

const LEASE: Duration = Duration::from_millis(8_000);

/// What reached the followers of a shard, and what was lost.
#[derive(Default)]
struct Seen {
    entries: AtomicUsize,
    empty: AtomicUsize,
}

async fn reached(counter: &AtomicUsize, count: usize) {
    eventually("messages have left", || {
        (counter.load(Ordering::SeqCst) >= count).then_some(())
    })
    .await;
}

/// An append that only says what is committed may leave while the entries before it are not answered yet. If it is lost,
/// the answer to these must not count for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_an_older_request_proves_nothing_later() {
    let config = RaftConfig {
        lease_ms: 8_000,
        ..config()
    };
    let cluster = Cluster::start(config).await;
    propose(&cluster.nodes, ONE, "before").await;
    let node = leader(&cluster.nodes, ONE).await;
    let shard = node.shard(ONE);
    eventually("its lease", || shard.holds_lease().then_some(())).await;

    // From the first entry on followers get entries only, and the answers to the first and to the second ones are held back.
    let seen = Arc::new(Seen::default());
    let answered = [watch::Sender::new(false), watch::Sender::new(false)];
    let (noted, when) = (seen.clone(), answered.each_ref().map(|w| w.subscribe()));
    let mut rounds: HashMap<NodeId, usize> = HashMap::new();
    *node.peers.judge.lock() = Some(Box::new(move |to, of, body| match body {
        // One that tells what was committed before may still be on its way. Lost, it would hold up the entries behind it.
        Body::Append(append)
            if of == ONE && append.entries.is_empty() && !rounds.contains_key(&to) =>
        {
            Fate::Delivered
        }
        Body::Append(append) if of == ONE && append.entries.is_empty() => {
            noted.empty.fetch_add(1, Ordering::SeqCst);
            Fate::Lost
        }
        Body::Append(_) if of == ONE => {
            let round = rounds.entry(to).or_default();
            *round += 1;
            noted.entries.fetch_add(1, Ordering::SeqCst);
            when.get(*round - 1)
                .map_or(Fate::Lost, |when| Fate::AnsweredOnce(when.clone()))
        }
        _ => Fate::Delivered,
    }));
    let write = |payload: &'static str| {
        let shard = shard.clone();
        tokio::spawn(async move { shard.propose(Bytes::from(payload)).await })
    };
    let first = write("first");
    reached(&seen.entries, 2).await;
    let second = write("second");
    reached(&seen.entries, 4).await;
    let last_sent = Instant::now();
    eventually("no half of a lease is left", || {
        (last_sent.elapsed() > LEASE / 2).then_some(())
    })
    .await;
    assert!(!shard.holds_lease());

    let read = tokio::spawn({
        let shard = shard.clone();
        async move { shard.read_barrier().await }
    });
    let lost = async |more| {
        let count = seen.empty.load(Ordering::SeqCst) + more;
        reached(&seen.empty, count).await;
    };
    lost(4).await; // the read waits for an answer to a heartbeat
    answered[0].send_replace(true);
    first.await.unwrap().unwrap();
    lost(4).await; // what says that the first is committed has left too
    answered[1].send_replace(true);
    second.await.unwrap().unwrap();
    assert!(
        !shard.holds_lease(),
        "nobody answered what was sent since the second entry"
    );
    assert!(read.await.unwrap().is_err(), "a majority was never asked");

    *node.peers.judge.lock() = None;
    propose(&cluster.nodes, ONE, "and on").await;
    cluster.stop().await;
}

/// Heartbeats do not wait for disks. A new leader does not know what its followers have before these have put an entry on
/// disk: it must be heard until then, however long the log is, or each leader is followed by the next election.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_of_a_long_log_is_heard_before_its_first_entry_is_taken() {
    let config = RaftConfig {
        log_entries_max: 300,
        ..short_logs()
    };
    let mut cluster = Cluster::start(config).await;
    propose(&cluster.nodes, ONE, "first").await;
    fill(&cluster.nodes, 20, 10).await;
    for node in &cluster.nodes {
        purged(&node.shard(ONE), 500).await;
    }
    for node in &cluster.nodes {
        *node.peers.judge.lock() = Some(Box::new(|_, of, body| match body {
            Body::Append(append) if of == ONE && !append.entries.is_empty() => Fate::Lost,
            _ => Fate::Delivered,
        }));
    }
    cluster.stop_leader().await;
    eventually("a new leader has been heard", || {
        let mut nodes = cluster.nodes.iter();
        nodes
            .any(|node| node.shard(ONE).holds_lease())
            .then_some(())
    })
    .await;

    for node in &cluster.nodes {
        *node.peers.judge.lock() = None;
    }
    propose(&cluster.nodes, ONE, "and on").await;
    cluster.stop().await;
}

/// The node's own beat and the library's timers rest: what is heard comes from one beat of the test's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_beat_is_heard_of_all_shards_that_a_node_leads() {
    const NEVER: Duration = Duration::from_secs(3_600);
    let config = RaftConfig {
        heartbeat_ms: 10_000,
        lease_ms: 30_000,
        ..config()
    };
    let cluster = Cluster::start(config).await;
    for shard in SHARDS {
        propose(&cluster.nodes, shard, "first").await;
        eventually("all have it", || {
            let mut rows = cluster
                .nodes
                .iter()
                .map(|node| recorded(&*node.store, shard));
            rows.all(|rows| rows.len() == 1).then_some(())
        })
        .await;
    }
    let node = leader(&cluster.nodes, ONE).await;
    assert!(node.shard(TWO).leadership().borrow().leading);
    let heard: Arc<Mutex<HashMap<(NodeId, ShardId), usize>>> = Arc::default();
    let noted = heard.clone();
    *node.peers.judge.lock() = Some(Box::new(move |to, of, body| {
        if matches!(body, Body::Append(append) if append.entries.is_empty()) {
            *noted.lock().entry((to, of)).or_default() += 1;
        }
        Fate::Delivered
    }));
    let led = SHARDS.map(|shard| (shard, node.shard(shard)));
    let led = Arc::new(RwLock::new(HashMap::from(led)));
    let beats = tokio::spawn(pulse::beat(Arc::downgrade(&led), NEVER));
    let followers = cluster.nodes.len() - 1;
    eventually("both followers have heard of both shards", || {
        (heard.lock().len() == followers * SHARDS.len()).then_some(())
    })
    .await;
    beats.abort();
    cluster.stop().await;
}
