//! The certificate of a listener, seen by real TLS clients while it is renewed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parlance_gateway::ListenerTls;
use parlance_proto::client::v1::server_frame::Body;
use parlance_proto::tls::{CertificateFacts, Role, Serial, TlsFiles, TlsIdentity};
use parlance_testkit::certs::Authority;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::ServerName;
use support::Rig;
use support::client::{Client, send_to};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const NAME: &str = "admin.parlance.internal"; // any name will do
const URL: &str = "wss://admin.parlance.internal/ws";
const SOON: Duration = Duration::from_secs(60);

/// A public authority and the two files of a listener.
struct Public {
    dir: tempfile::TempDir,
    authority: Authority,
    files: ListenerTls,
}

impl Public {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        let files = ListenerTls {
            cert: dir.path().join("public.pem"),
            key: dir.path().join("public-key.pem"),
        };
        let new = Self {
            dir,
            authority,
            files,
        };
        new.renew("one");
        new
    }

    /// Another certificate is put in the place of the one that is there.
    fn renew(&self, name: &str) -> Serial {
        let new = self.authority.issue(name, Role::Admin).unwrap();
        for (from, to) in [(&new.cert, &self.files.cert), (&new.key, &self.files.key)] {
            std::fs::rename(from, to).unwrap();
        }
        let files = TlsFiles {
            ca: new.ca,
            cert: self.files.cert.clone(),
            key: self.files.key.clone(),
        };
        TlsIdentity::load(&files).unwrap().certificate.serial
    }

    fn client(&self) -> Arc<ClientConfig> {
        support::trusting(&self.dir.path().join("ca.crt"))
    }
}

async fn connect(config: Arc<ClientConfig>, address: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .unwrap()
}

fn shown(stream: &TlsStream<TcpStream>) -> Serial {
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    CertificateFacts::of(&chain[0]).unwrap().serial
}

async fn rig(public: &Public) -> Rig {
    Rig::start(1, |config| {
        config.listener[0].tls = Some(public.files.clone());
    })
    .await
}

/// Asks again and again what new clients are shown.
async fn becomes(public: &Public, address: SocketAddr, serial: &Serial) {
    let changed = async {
        while shown(&connect(public.client(), address).await) != *serial {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, changed)
        .await
        .expect("the new certificate is shown");
}

async fn say<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    client: &mut Client<S>,
    id: &str,
) {
    let answer = client.ask(send_to("bob", id, "x")).await;
    assert!(matches!(answer, Body::Send(_)), "{answer:?}");
}

#[tokio::test]
async fn a_renewed_certificate_is_for_new_clients_and_those_that_are_there_stay() {
    let public = Public::new();
    let rig = rig(&public).await;
    let address = rig.address();
    let first = connect(public.client(), address).await;
    let before = shown(&first);
    let mut alice = Client::over(first, URL).await;
    alice.log_in("alice").await;

    let garbage = |path: &Path| std::fs::write(path, "no certificate").unwrap();
    garbage(&public.files.cert);
    rig.gateway.reload_certificates();
    assert_eq!(shown(&connect(public.client(), address).await), before);
    say(&mut alice, "m1").await;

    // Without being asked to, and at once when asked.
    let second = public.renew("two");
    assert_ne!(second, before);
    becomes(&public, address, &second).await;
    let third = public.renew("three");
    rig.gateway.reload_certificates();
    becomes(&public, address, &third).await;
    say(&mut alice, "m2").await;
}

/// All clients of a lost gateway come at once. The library's own cache has room for 256 of them.
#[tokio::test]
async fn a_client_that_was_here_before_comes_back_with_its_ticket_however_many_came_since() {
    let public = Public::new();
    let rig = rig(&public).await;
    let address = rig.address();
    let config = public.client();
    let stream = connect(config.clone(), address).await;
    assert_eq!(
        stream.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Full)
    );
    let mut alice = Client::over(stream, URL).await;
    alice.log_in("alice").await; // tickets come with the first bytes
    drop(alice);
    for _ in 0..300 {
        connect(public.client(), address).await;
    }
    let stream = connect(config, address).await;
    assert_eq!(
        stream.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
}
