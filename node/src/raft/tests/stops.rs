//! Replicas that stop by themselves, and take no other with them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use parlance_proto::ids::ShardId;

use super::cluster::Cluster;
use super::fixture::*;
use crate::machine::{CommittedEntry, Outcome, StateMachine};
use crate::raft::Replica;
use crate::store::{RowRange, StoreError, WriteBatch};

const BROKEN: ShardId = ShardId(3);

/// Cannot apply what it is given.
struct Broken(fn() -> StoreError);

impl StateMachine for Broken {
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        _: &mut WriteBatch,
    ) -> Result<Vec<Outcome>, StoreError> {
        if entries.iter().any(|entry| entry.payload.is_some()) {
            return Err((self.0)());
        }
        Ok(entries.iter().map(|_| Outcome::default()).collect())
    }

    fn written(&mut self) {}

    fn ranges(&self) -> Arc<[RowRange]> {
        row_ranges(BROKEN)
    }

    fn restored(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A replica, on the first node, that has met what it cannot apply and has said that it stops.
async fn stopped(cluster: &Cluster, machine: Broken) -> Replica {
    propose(&cluster.nodes, ONE, "first").await;
    let node = &cluster.nodes[0];
    let broken = node.host.start_replica(BROKEN, Box::new(machine)).await;
    let broken = broken.unwrap();
    broken.initialize(node_ids([node.id.0])).await.unwrap();
    eventually("it leads", || {
        broken.leadership().borrow().leading.then_some(())
    })
    .await;
    let lost = broken.propose(Bytes::from_static(b"x")).await;
    assert!(lost.is_err(), "{lost:?}");
    let mut stopped = node.host.stopped();
    let told = stopped.wait_for(|stopped| stopped.contains_key(&BROKEN));
    let told = tokio::time::timeout(Duration::from_secs(20), told).await;
    assert!(told.is_ok(), "it stops in silence");
    assert!(!broken.leadership().borrow().leading);
    broken
}

/// The other shards of its node go on, and so does the process.
async fn others_go_on(cluster: Cluster) {
    let node = &cluster.nodes[0];
    let applied = propose(&cluster.nodes, ONE, "the others go on").await;
    eventually("its node applies it too", || {
        (node.shard(ONE).status().applied >= applied.index).then_some(())
    })
    .await;
    let must_end = node.host.failed().now_or_never();
    assert_eq!(must_end, None, "the process need not end");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_panics_says_that_it_has_stopped_and_takes_no_other_with_it() {
    let cluster = Cluster::start(config()).await;
    stopped(&cluster, Broken(|| panic!("a bug"))).await;
    others_go_on(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_cannot_read_the_rows_it_needs_to_apply_stops_alone() {
    let cluster = Cluster::start(config()).await;
    let unreadable = || StoreError::File {
        path: "state".into(),
        source: Arc::new(io::Error::other("Input/output error")),
    };
    let broken = stopped(&cluster, Broken(unreadable)).await;
    let reason = broken.status().stopped.unwrap_or_default();
    assert!(
        reason.contains("Input/output error") && reason.contains("look at the disk"),
        "{reason}"
    );
    others_go_on(cluster).await;
}
