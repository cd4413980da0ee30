//! Measurements inside one process: what the Raft library does with our log store and nothing else (`bare.rs`), and
//! what a node's whole commit path does beside it (`commit.rs`).
//!
//! `cargo test --release --workspace --lib -- --ignored --nocapture measure::`

mod bare;
mod commit;
mod none;

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::tls::Role;
use tokio::time::Instant;

use crate::apply::dedup::Dedup;
use crate::apply::{Levels, ShardMachine};
use crate::machine::StateMachine;
use crate::raft::tests::fixture::*;
use crate::raft::*;
use crate::shard::ShardParts;
use crate::store::StateStore;
use crate::store::manifest::Existing;
use crate::store::rocks::RocksStore;
use crate::totals::Totals;
use none::{DirectLink, NoMachine, NoRows};

/// The one that the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const COMMAND_BYTES: usize = 256;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, PartialEq)]
enum Transport {
    /// Function calls.
    Direct,
    Quic,
}

#[derive(Clone, Copy, PartialEq)]
enum Machines {
    /// Nothing is applied or kept.
    None,
    /// Shards with their rows. Nobody wants their effects.
    Shards,
}

/// Three nodes, each with its own synced log.
struct Bench {
    _dir: tempfile::TempDir,
    hosts: Vec<RaftHost>,
    stores: Vec<Arc<dyn StateStore>>,
    parts: HashMap<(NodeId, ShardId), ShardParts>,
    links: Vec<QuicLink>,
}

impl Bench {
    async fn start(transport: Transport, machines: Machines, shards: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let (nodes, direct) = (Arc::new(Nodes::default()), DirectLink::default());
        let (mut hosts, mut stores, mut links) = (Vec::new(), Vec::new(), Vec::new());
        let mut parts = HashMap::new();
        for node_id in (1..=3).map(NodeId) {
            let data_dir = dir.path().join(node_id.to_string());
            let (peers, link): (Arc<dyn PeerLink>, _) = match transport {
                Transport::Direct => (Arc::new(direct.of(node_id)), None),
                Transport::Quic => {
                    let link = quic_link(node_id, &authority, &nodes);
                    (Arc::new(link.clone()), Some(link))
                }
            };
            let store = store(machines, &data_dir);
            let config = RaftHostConfig {
                node_id,
                data_dir,
                raft: raft_config(),
                recover_torn_log: false,
                existing: Existing::No,
            };
            let host = RaftHost::open(config, store.clone(), peers).await.unwrap();
            for shard in (1..=shards).map(ShardId) {
                let own = ShardParts::new(Arc::default(), &Totals::default());
                let machine = machine(machines, shard, &store, &own);
                host.start_replica(shard, machine).await.unwrap();
                parts.insert((node_id, shard), own);
            }
            direct.nodes.write().push((node_id, host.inbound()));
            if let Some(link) = link {
                let identity = LocalIdentity {
                    cluster_id: CLUSTER.into(),
                    store_id: "s".into(),
                };
                link.attach(identity, host.inbound());
                links.push(link);
            }
            hosts.push(host);
            stores.push(store);
        }
        for shard in (1..=shards).map(ShardId) {
            let founder = hosts[shard.0 as usize % 3].get(shard).unwrap();
            founder.initialize(node_ids(1..=3)).await.unwrap();
        }
        for shard in (1..=shards).map(ShardId) {
            eventually("a leader", || leading(&hosts, shard)).await;
        }
        Self {
            _dir: dir,
            hosts,
            stores,
            parts,
            links,
        }
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

fn quic_link(node_id: NodeId, authority: &Authority, nodes: &Arc<Nodes>) -> QuicLink {
    let config = QuicConfig::new(node_id, ([127, 0, 0, 1], 0).into(), raft_config());
    let tls = authority.identity(Role::Node(node_id.0));
    let link = QuicLink::start(&config, &tls, nodes.clone(), Arc::new(InviteHandler)).unwrap();
    let address = link.local_addr().unwrap();
    nodes.0.lock().insert(node_id, (address, String::new()));
    link
}

/// No snapshot falls into a measurement.
fn raft_config() -> RaftConfig {
    RaftConfig {
        snapshot_entries: u64::MAX / 8,
        snapshot_bytes: u64::MAX,
        ..RaftConfig::default()
    }
}

fn store(machines: Machines, data_dir: &Path) -> Arc<dyn StateStore> {
    match machines {
        Machines::None => Arc::new(NoRows),
        Machines::Shards => {
            Arc::new(RocksStore::open(&data_dir.join("state"), Existing::No).unwrap())
        }
    }
}

fn machine(
    machines: Machines,
    shard: ShardId,
    store: &Arc<dyn StateStore>,
    parts: &ShardParts,
) -> Box<dyn StateMachine> {
    match machines {
        Machines::None => Box::new(NoMachine),
        Machines::Shards => {
            let (sink, levels) = (parts.sink(), Levels::new(1..=1));
            let tips = Totals::default().tips;
            let machine = ShardMachine::open(shard, store.clone(), sink, Dedup::On, levels, &tips);
            Box::new(machine.unwrap())
        }
    }
}

fn leading(hosts: &[RaftHost], shard: ShardId) -> Option<Replica> {
    hosts
        .iter()
        .filter_map(|host| host.get(shard))
        .find(|shard| shard.leadership().borrow().leading)
}

/// What a run came to.
struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    /// CPU time of the whole process for one request: on a shared machine steadier than the rate.
    cpu: Duration,
}

/// Runs clients that each wait for one request before the next; `client(n)` makes the n-th, which answers whether a
/// request succeeded.
async fn measure<F, R>(clients: usize, client: impl Fn(usize) -> F) -> Figures
where
    F: FnMut() -> R + Send + 'static,
    R: Future<Output = bool> + Send,
{
    let begin = Instant::now() + WARM_UP;
    let end = begin + MEASURE;
    let cpu_begin = tokio::spawn(async move {
        tokio::time::sleep_until(begin).await;
        cpu_time()
    });
    let runs = (0..clients).map(|n| {
        let mut request = client(n);
        tokio::spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let started = Instant::now();
                assert!(request().await, "a leader changed: measure again");
                if started > begin {
                    took.push(started.elapsed());
                }
            }
            took
        })
    });
    let took = futures::future::try_join_all(runs).await.unwrap();
    let cpu = cpu_time() - cpu_begin.await.unwrap();
    let mut took: Vec<Duration> = took.concat();
    took.sort_unstable();
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).copied();
    Figures {
        per_second: took.len() as f64 / MEASURE.as_secs_f64(),
        p50: at(0.5).unwrap_or_default(),
        p99: at(0.99).unwrap_or_default(),
        cpu: cpu / u32::try_from(took.len().max(1)).unwrap(),
    }
}

/// Of this process, user and system, in the kernel's steps of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    Duration::from_millis(10 * ticks.map(|n| n.parse::<u64>().unwrap()).sum::<u64>())
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}
