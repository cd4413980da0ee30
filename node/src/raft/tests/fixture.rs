//! What the tests share: a state machine that records, certificates, a cluster in one process over QUIC.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{AppendRequest, InviteResponse, peer_message::Body};
use parlance_proto::store::v1::Vote;
use parlance_proto::tls::{Role, TlsFiles};
use parlance_tls::ClusterTls;
use tokio::time::{Instant, sleep};

use super::slow_link::SlowLink;
use crate::machine::{CommittedEntry, Outcome, StateMachine};
use crate::raft::*;
use crate::store::faulty::FaultyStore;
use crate::store::manifest::Existing;
use crate::store::rocks::RocksStore;
use crate::store::{Order, RowRange, StateStore, StoreError, Table, WriteBatch, key};

/// Appends every payload as a row: event number in the shard's order.
pub(crate) struct Recorder {
    pub(crate) shard: ShardId,
}

/// All rows of a shard that records.
pub(crate) fn row_ranges(shard: ShardId) -> Arc<[RowRange]> {
    let range = |table| {
        let (from, to) = key::shard_range(shard);
        RowRange { table, from, to }
    };
    [Table::Events, Table::Meta].map(range).into()
}

pub(crate) fn row_key(shard: ShardId, index: u64) -> Vec<u8> {
    [&shard.0.to_be_bytes()[..], &index.to_be_bytes()[..]].concat()
}

impl StateMachine for Recorder {
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        write: &mut WriteBatch,
    ) -> Result<Vec<Outcome>, StoreError> {
        for entry in entries {
            if let Some(payload) = &entry.payload {
                write.put(
                    Table::Events,
                    row_key(self.shard, entry.index),
                    payload.to_vec(),
                );
            }
        }
        Ok(entries.iter().map(|_| Outcome::default()).collect())
    }

    fn written(&mut self) {}

    fn ranges(&self) -> Arc<[RowRange]> {
        row_ranges(self.shard)
    }

    fn restored(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// All payloads of a shard, in order.
pub(crate) fn recorded(store: &dyn StateStore, shard: ShardId) -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    let (from, to) = key::shard_range(shard);
    store
        .scan(
            Table::Events,
            &from,
            &to,
            Order::Ascending,
            &mut |_, value| {
                rows.push(value.to_vec());
                true
            },
        )
        .unwrap();
    rows
}

/// A CA that makes certificates in a folder.
pub(crate) struct Authority {
    dir: PathBuf,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new(dir: &Path) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
        Self {
            dir: dir.to_owned(),
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    pub(crate) fn identity(&self, role: Role) -> Arc<ClusterTls> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(role.dns_names()).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let name = role.dns_names().remove(0);
        let files = TlsFiles {
            ca: self.dir.join("ca.pem"),
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        std::fs::write(&files.cert, cert.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        ClusterTls::open(&files).unwrap()
    }
}

/// Where the nodes of a test are.
#[derive(Default)]
pub(crate) struct Nodes(pub(crate) Mutex<HashMap<NodeId, (SocketAddr, String)>>);

impl Directory for Nodes {
    fn address(&self, node: NodeId) -> Option<String> {
        self.0
            .lock()
            .get(&node)
            .map(|(address, _)| address.to_string())
    }

    fn store_id(&self, node: NodeId) -> Option<String> {
        self.0
            .lock()
            .get(&node)
            .map(|(_, store_id)| store_id.clone())
    }
}

/// Answers invitations.
pub(crate) struct InviteHandler;

impl PeerHandler for InviteHandler {
    fn handle(
        &self,
        _from: NodeId,
        _shard: ShardId,
        body: Body,
    ) -> BoxFuture<'static, Option<Body>> {
        let answer = match body {
            Body::Invite(_) => Some(Body::InviteResponse(InviteResponse {
                store_id: "fresh".into(),
                ..InviteResponse::default()
            })),
            _ => None,
        };
        futures::future::ready(answer).boxed()
    }
}

pub(crate) const CLUSTER: &str = "test-cluster";
pub(crate) const ONE: ShardId = ShardId(1);
pub(crate) const TWO: ShardId = ShardId(2);
pub(crate) const SHARDS: [ShardId; 2] = [ONE, TWO];

pub(crate) fn node_ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    ids.into_iter().map(NodeId).collect()
}

pub(crate) fn config() -> RaftConfig {
    RaftConfig {
        heartbeat_ms: 50,
        lease_ms: 400,
        ..RaftConfig::default()
    }
}

/// A node of a test cluster.
pub(crate) struct TestNode {
    pub(crate) id: NodeId,
    pub(crate) link: QuicLink,
    pub(crate) host: RaftHost,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) peers: Arc<SlowLink>,
}

impl TestNode {
    pub(crate) async fn start(
        dir: &Path,
        authority: &Authority,
        nodes: &Arc<Nodes>,
        id: NodeId,
        raft: RaftConfig,
    ) -> Self {
        let listen = nodes
            .0
            .lock()
            .get(&id)
            .map_or(([127, 0, 0, 1], 0).into(), |(address, _)| *address);
        let quic = QuicConfig::new(id, listen, raft.clone());
        let tls = authority.identity(Role::Node(id.0));
        // Tasks of a node that was stopped a moment ago may still hold its socket.
        let link = eventually("the node's address is free", || {
            QuicLink::start(&quic, &tls, nodes.clone(), Arc::new(InviteHandler)).ok()
        })
        .await;
        let store_id = format!("store-{id}");
        nodes
            .0
            .lock()
            .insert(id, (link.local_addr().unwrap(), store_id.clone()));
        let data_dir = dir.join(format!("node-{id}"));
        // And its store.
        let rows = eventually("the node's store is free", || {
            RocksStore::open(&data_dir.join("state"), Existing::No).ok()
        })
        .await;
        let store = Arc::new(FaultyStore::over(Arc::new(rows)));
        let peers = Arc::new(SlowLink::over(link.clone()));
        let host_config = RaftHostConfig {
            node_id: id,
            data_dir,
            raft,
            recover_torn_log: false,
            existing: Existing::No,
        };
        let host = RaftHost::open(host_config, store.clone(), peers.clone())
            .await
            .unwrap();
        link.attach(
            LocalIdentity {
                cluster_id: CLUSTER.into(),
                store_id,
            },
            host.inbound(),
        );
        for shard in SHARDS {
            host.start_replica(shard, Box::new(Recorder { shard }))
                .await
                .unwrap();
        }
        Self {
            id,
            link,
            host,
            store,
            peers,
        }
    }

    pub(crate) fn shard(&self, shard: ShardId) -> Replica {
        self.host.get(shard).unwrap()
    }

    pub(crate) async fn stop(self) {
        self.link.shutdown().await;
        self.host.shutdown().await;
    }
}

impl TestNode {
    /// How often a snapshot replaced rows here.
    pub(crate) fn imports(&self) -> u32 {
        self.store.imports.load(Ordering::SeqCst)
    }
}

/// Copies a data directory that is in use.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &copy);
        } else {
            std::fs::copy(&path, &copy).unwrap();
        }
    }
}

/// As the leader's, about nothing new.
pub(crate) fn empty_append(term: u64, leader: NodeId) -> Body {
    Body::Append(AppendRequest {
        vote: Some(Vote {
            term,
            node_id: leader.0,
            committed: true,
        }),
        ..AppendRequest::default()
    })
}

/// Waits until `check` answers something.
pub(crate) async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The node that leads a shard.
pub(crate) async fn leader(nodes: &[TestNode], shard: ShardId) -> &TestNode {
    eventually("a leader", || {
        nodes
            .iter()
            .find(|node| node.shard(shard).leadership().borrow().leading)
    })
    .await
}

/// Proposes at whoever leads until it is applied.
pub(crate) async fn propose(nodes: &[TestNode], shard: ShardId, payload: &str) -> Applied {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let leader = leader(nodes, shard).await;
        match leader
            .shard(shard)
            .propose(Bytes::from(payload.to_owned()))
            .await
        {
            Ok(applied) => return applied,
            Err(e) => assert!(Instant::now() < deadline, "not proposed: {e}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}
