//! What the gateway's tests need: a cluster of fake nodes in memory, and a WebSocket client.

pub mod client;
pub mod counters;
pub mod http;
pub mod node;
pub mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parlance_gateway::{Config, Gateway, Listener};
use parlance_proto::tls::Role;
use parlance_testkit::certs::Authority;
use parlance_testkit::peer::NodePeer;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::world::World;

/// Nodes, one gateway, and the folder of their certificates.
pub struct Rig {
    pub world: Arc<World>,
    _nodes: Vec<NodePeer>,
    pub gateway: Gateway,
    folder: tempfile::TempDir,
}

impl Rig {
    /// `nodes` fake nodes; node 1 leads every shard.
    pub async fn start(nodes: u64, settings: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(World::new(), nodes, settings).await
    }

    /// The same, in a world that is there already.
    pub async fn start_in(
        world: Arc<World>,
        nodes: u64,
        settings: impl FnOnce(&mut Config),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let mut running = Vec::new();
        for id in 1..=nodes {
            running.push(node::start(id, &authority, world.clone()).await);
        }
        let addresses = running.iter().map(|node| node.address.to_string());
        world.announce((1..).zip(addresses).collect());
        let mut config = Config {
            listener: vec![free_port()],
            nodes: running.iter().map(|n| n.address.to_string()).collect(),
            tls: authority.issue("gateway", gateway_role()).unwrap(),
            ..Config::default()
        };
        config.limits.drain_ms = 300;
        settings(&mut config);
        let gateway = Gateway::start(config).await.unwrap();
        eventually("the gateway is ready", || gateway.ready().is_ok()).await;
        Self {
            world,
            _nodes: running,
            gateway,
            folder,
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.gateway.addresses()[0]
    }

    /// A TLS stream of a client that trusts the rig's CA and has no certificate itself.
    pub async fn tls_client(&self, name: &str, address: SocketAddr) -> TlsStream<TcpStream> {
        let config = trusting(&self.folder.path().join("ca.crt"));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(config)
            .connect(name, stream)
            .await
            .unwrap()
    }
}

/// The role of the rig's gateway.
pub fn gateway_role() -> Role {
    Role::Gateway(Config::default().gateway_id)
}

/// A listener on any free port.
pub fn free_port() -> Listener {
    Listener {
        address: ([127, 0, 0, 1], 0).into(),
        ..Listener::default()
    }
}

/// As [`eventually`], for what must be asked.
pub async fn eventually_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not in time: {what}");
}

/// Waits for a condition with a deadline.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not in time: {what}");
}

/// TLS of a client that trusts the CA in this file and has no certificate itself.
pub fn trusting(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
