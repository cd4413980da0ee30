//! A shard that begins with rows in place of a log, as a split leaves them.

use parlance_proto::ids::{NodeId, ShardId};
use prost::Message;

use super::cluster::Cluster;
use super::fixture::*;
use crate::machine::state_without_log;
use crate::raft::*;
use crate::store::{StateStore, Table, WriteBatch, key};

const CHILD: ShardId = ShardId(9);

/// What applying a split leaves on a node.
fn leave_rows(node: &TestNode) {
    let voters = node_ids(1..=3);
    let mut batch = WriteBatch::default();
    for index in 0..10 {
        // Places that the child's own log does not come to.
        let key = row_key(CHILD, 1_000 + index);
        batch.put(Table::Events, key, b"inherited".to_vec());
    }
    let applied = state_without_log(&voters).encode_to_vec();
    batch.put(Table::Meta, key::applied(CHILD), applied);
    node.store.write(&batch).unwrap();
    node.store.flush().unwrap();
}

async fn start(node: &TestNode) -> Replica {
    let machine = Box::new(Recorder { shard: CHILD });
    node.host.start_replica(CHILD, machine).await.unwrap()
}

async fn restart(cluster: &mut Cluster, id: NodeId) {
    let place = cluster.nodes.iter().position(|node| node.id == id).unwrap();
    cluster.nodes.remove(place).stop().await;
    cluster.add(id).await;
    start(cluster.nodes.last().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_starts_from_rows_without_a_log_and_goes_on_after_restarts() {
    // Elections by themselves take longer than the test has.
    let slow = RaftConfig {
        lease_ms: 30_000,
        ..config()
    };
    let cluster = Cluster::start(slow).await;
    for node in &cluster.nodes {
        leave_rows(node);
        let child = start(node).await;
        // The status is told by the replica's own task.
        eventually("it knows its voters", || {
            (child.status().voters == node_ids(1..=3)).then_some(())
        })
        .await;
        let status = child.status();
        assert_eq!((status.applied, status.stopped), (0, None));
    }
    let first = cluster.nodes[0].shard(CHILD);
    first.elect().await;
    eventually("the first leads", || {
        first.leadership().borrow().leading.then_some(())
    })
    .await;
    propose(&cluster.nodes, CHILD, "own").await;
    for node in &cluster.nodes {
        eventually("inherited rows and the new one", || {
            (recorded(&*node.store, CHILD).len() == 11).then_some(())
        })
        .await;
        assert_eq!(node.imports(), 0, "nobody needed a snapshot");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_without_a_log_survives_restarts_before_and_after_its_first_entry() {
    let mut cluster = Cluster::start(config()).await;
    for node in &cluster.nodes {
        leave_rows(node);
    }
    // Alone it cannot be elected.
    start(&cluster.nodes[2]).await;
    restart(&mut cluster, NodeId(3)).await;
    for place in 0..2 {
        start(&cluster.nodes[place]).await;
    }
    cluster.nodes[0].shard(CHILD).elect().await;
    propose(&cluster.nodes, CHILD, "own").await;
    restart(&mut cluster, NodeId(1)).await;
    propose(&cluster.nodes, CHILD, "more").await;
    for node in &cluster.nodes {
        eventually("all rows", || {
            (recorded(&*node.store, CHILD).len() == 12).then_some(())
        })
        .await;
        assert!(node.host.stopped().borrow().is_empty());
    }
    cluster.stop().await;
}
