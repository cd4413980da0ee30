//! A node's listener: gRPC with a node's certificate, for the services that a test plays.

use std::net::SocketAddr;

use anyhow::Result;
use parlance_proto::tls::{TlsFiles, TlsIdentity};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// Serves until it is dropped.
pub struct NodePeer {
    /// Where it listens: a free port of this machine.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl NodePeer {
    /// Listens with a certificate whose role is a node; `services` as in `Routes::new(LinkServer::new(…))`.
    pub async fn start(files: &TlsFiles, services: Routes) -> Result<Self> {
        let identity = TlsIdentity::load(files)?;
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&identity.pem.cert, &identity.pem.key))
            .client_ca_root(Certificate::from_pem(&identity.pem.ca));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = Server::builder().tls_config(tls)?.add_routes(services);
        let task = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            if let Err(error) = server.serve_with_incoming(incoming).await {
                eprintln!("a test's node ends: {error}");
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for NodePeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
