//! What the Raft library does with our log store and nothing else: the mark that a whole node is measured against.
//!
//! Three nodes in one process, each with its own synced log; rows are not kept. Run it by
//! `cargo test --release --workspace --lib -- --ignored --nocapture raft_baseline`.

#![allow(
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "a measurement, read from top to bottom"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use parlance_proto::raft::v1::{CallError, SnapshotHeader, SnapshotResponse, peer_message::Body};
use parlance_proto::shard::Group;
use parlance_proto::tls::Role;

use super::fixture::*;
use crate::apply::Outcome;
use crate::raft::*;
use crate::store::{ExportedFile, Order, StateStore, StoreError, Table, WriteSet};

const COMMAND_BYTES: usize = 256;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURE: Duration = Duration::from_secs(3);

/// Forgets every row.
struct NoRows;

impl StateStore for NoRows {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }
    fn get_durable(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.get(table, key)
    }

    fn scan(
        &self,
        _: Table,
        _: &[u8],
        _: &[u8],
        _: Order,
        _: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        Ok(())
    }
    fn write(&self, _: WriteSet) -> Result<(), StoreError> {
        Ok(())
    }
    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
    fn export(
        &self,
        _: Group,
        _: &Path,
        _: &mut dyn FnMut(&crate::store::ReadRow<'_>) -> Result<(), StoreError>,
    ) -> Result<Vec<ExportedFile>, StoreError> {
        Ok(Vec::new())
    }
    fn import(&self, _: Group, _: &Path, _: &[ExportedFile]) -> Result<(), StoreError> {
        Ok(())
    }
}

struct NoMachine;

impl StateMachine for NoMachine {
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        _: &mut WriteSet,
    ) -> Result<Vec<Outcome>, StoreError> {
        Ok(entries.iter().map(|_| Outcome::default()).collect())
    }
    fn written(&mut self) {}
    fn restored(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Function calls in place of a network.
#[derive(Clone, Default)]
struct DirectLink {
    node_id: NodeId,
    nodes: Arc<RwLock<Vec<(NodeId, Arc<dyn RaftInbound>)>>>,
}

impl PeerLink for DirectLink {
    fn call(
        &self,
        to: NodeId,
        _: Lane,
        group: Group,
        body: Body,
        _: Duration,
    ) -> BoxFuture<'static, Result<Body, PeerError>> {
        let inbound = self
            .nodes
            .read()
            .iter()
            .find(|(id, _)| *id == to)
            .map(|(_, inbound)| inbound.clone());
        let Some(inbound) = inbound else {
            let reason = "not there".to_owned();
            return futures::future::ready(Err(PeerError::Unreachable { node: to, reason }))
                .boxed();
        };
        let mut answer = inbound.handle(self.node_id, group, body);
        let checked = move |body| match body {
            Body::Error(CallError { message, .. }) => Err(PeerError::Refused {
                node: to,
                reason: message,
            }),
            body => Ok(body),
        };
        match tokio::task::unconstrained(&mut answer).now_or_never() {
            Some(body) => futures::future::ready(checked(body)).boxed(),
            None => async move { checked(answer.await) }.boxed(),
        }
    }

    fn post(&self, _: NodeId, _: Lane, _: Group, _: Body) {}

    fn send_snapshot(
        &self,
        node: NodeId,
        _: SnapshotHeader,
        _: SnapshotFiles,
    ) -> BoxFuture<'static, Result<SnapshotResponse, PeerError>> {
        futures::future::ready(Err(PeerError::Unreachable {
            node,
            reason: "no snapshots here".into(),
        }))
        .boxed()
    }
}

enum Transport {
    Direct,
    Quic,
}

struct Bench {
    _dir: tempfile::TempDir,
    hosts: Vec<RaftHost>,
    links: Vec<QuicLink>,
}

impl Bench {
    async fn start(transport: &Transport, groups: Group) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let (directory, direct) = (Arc::new(Nodes::default()), DirectLink::default());
        let (mut hosts, mut links) = (Vec::new(), Vec::new());
        for node_id in 1..=3 {
            let raft = RaftConfig {
                snapshot_entries: u64::MAX / 8,
                snapshot_bytes: u64::MAX,
                ..RaftConfig::default()
            };
            let data_dir = dir.path().join(node_id.to_string());
            let config = RaftHostConfig {
                node_id,
                data_dir,
                raft: raft.clone(),
                recover_torn_log: false,
                existing: crate::store::manifest::Existing::No,
            };
            let (peers, link): (Arc<dyn PeerLink>, Option<QuicLink>) = match transport {
                Transport::Direct => (
                    Arc::new(DirectLink {
                        node_id,
                        ..direct.clone()
                    }),
                    None,
                ),
                Transport::Quic => {
                    let quic = QuicConfig {
                        node_id,
                        listen: ([127, 0, 0, 1], 0).into(),
                        raft,
                    };
                    let tls = authority.identity(Role::Node(node_id));
                    let link =
                        QuicLink::start(&quic, &tls, directory.clone(), Arc::new(Desk)).unwrap();
                    directory
                        .0
                        .lock()
                        .insert(node_id, (link.local_addr().unwrap(), String::new()));
                    (Arc::new(link.clone()), Some(link))
                }
            };
            let host = RaftHost::open(config, Arc::new(NoRows), peers)
                .await
                .unwrap();
            direct.nodes.write().push((node_id, host.inbound()));
            if let Some(link) = link {
                link.attach(
                    LocalIdentity {
                        cluster_id: CLUSTER.into(),
                        store_id: "s".into(),
                    },
                    host.inbound(),
                );
                links.push(link);
            }
            hosts.push(host);
        }
        for group in 1..=groups {
            for host in &hosts {
                host.start_group(group, Box::new(NoMachine)).await.unwrap();
            }
            let founder = hosts[group as usize % 3].get(group).unwrap();
            founder.initialize(BTreeSet::from([1, 2, 3])).await.unwrap();
        }
        for group in 1..=groups {
            eventually("a leader", || leading(&hosts, group)).await;
        }
        Self {
            _dir: dir,
            hosts,
            links,
        }
    }

    /// Entries a second, and the median and 99th percentile of how long one took.
    async fn measure(
        &self,
        groups: Group,
        in_flight: usize,
        entry_bytes: usize,
    ) -> (f64, Duration, Duration) {
        let done = Arc::new(AtomicU64::new(0));
        let payload = Bytes::from(vec![7; entry_bytes]);
        let (begin, end) = (Instant::now() + WARM_UP, Instant::now() + WARM_UP + MEASURE);
        let clients = (0..in_flight).map(|client| {
            let group = leading(&self.hosts, 1 + client as Group % groups).unwrap();
            let (payload, done) = (payload.clone(), done.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < end {
                    let started = Instant::now();
                    if group.propose(payload.clone()).await.is_ok() && started > begin {
                        done.fetch_add(1, Ordering::Relaxed);
                        took.push(started.elapsed());
                    }
                }
                took
            })
        });
        let mut took: Vec<Duration> = futures::future::try_join_all(clients)
            .await
            .unwrap()
            .concat();
        took.sort_unstable();
        let at = |part: f64| {
            took.get((took.len() as f64 * part) as usize)
                .copied()
                .unwrap_or_default()
        };
        (
            done.load(Ordering::Relaxed) as f64 / MEASURE.as_secs_f64(),
            at(0.5),
            at(0.99),
        )
    }

    async fn stop(self) {
        for link in &self.links {
            link.shutdown().await;
        }
        for host in &self.hosts {
            host.shutdown().await;
        }
    }
}

fn leading(hosts: &[RaftHost], group: Group) -> Option<RaftGroup> {
    hosts
        .iter()
        .filter_map(|host| host.get(group))
        .find(|group| group.leadership().borrow().leading)
}

#[test]
#[ignore = "a measurement of about two minutes"]
fn raft_baseline() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    println!(
        "| transport | groups | in flight | commands an entry | entries/s | commands/s | p50 ms | p99 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (name, transport) in [("direct", Transport::Direct), ("quic", Transport::Quic)] {
        for groups in [1, 64] {
            runtime.block_on(async {
                let bench = Bench::start(&transport, groups).await;
                for (in_flight, commands) in [(1, 1), (64, 1), (1024, 1), (64, 64), (256, 64)] {
                    let (rate, p50, p99) = bench.measure(groups, in_flight, commands * COMMAND_BYTES).await;
                    println!(
                        "| {name} | {groups} | {in_flight} | {commands} | {rate:.0} | {:.0} | {:.2} | {:.2} |",
                        rate * commands as f64,
                        p50.as_secs_f64() * 1e3,
                        p99.as_secs_f64() * 1e3,
                    );
                }
                bench.stop().await;
            });
        }
    }
}
