//! The ways in: one folder a protocol, and what they share. An endpoint turns frames into calls of the api and answers
//! into frames. To add one: a folder, a variant of [`Protocol`], a line in [`serve`].

mod certificate;
pub mod listen;
mod metered;
pub mod native;
mod proxy;
mod web;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::task::TaskTracker;

pub use certificate::ListenerCertificate;
pub use metered::Metered;

use crate::api::Api;
use crate::bounds::Place;
use crate::config::Protocol;

/// A client's socket; TLS is boxed because its state is large and plain sockets need not carry it.
pub type ClientStream = Metered<Either<TcpStream, Box<TlsStream<TcpStream>>>>;

/// What all connections of a gateway share.
pub struct Shared {
    /// What clients can ask.
    pub api: Arc<Api>,
    /// The tasks of all connections.
    pub tasks: TaskTracker,
    /// Static files, an absolute path.
    pub page_dir: Option<PathBuf>,
}

/// One accepted connection, until it ends or is handed on to a task of its own.
#[derive(Clone)]
pub struct Connection {
    /// What it shares with others.
    pub shared: Arc<Shared>,
    /// Its place among the connections of this gateway: kept as long as the socket is open.
    pub place: Arc<OwnedSemaphorePermit>,
    /// Its place among those that have not logged in.
    pub waiting: Arc<Place>,
    /// Where the client is: said by the proxy in front, if there is one.
    pub address: SocketAddr,
}

/// How the connections of one listener are served.
#[derive(Clone)]
pub enum Endpoint {
    /// HTTP, and what it upgrades to.
    Web(axum::Router),
}

impl Endpoint {
    /// The endpoint of a protocol.
    pub fn new(protocol: Protocol, shared: &Shared) -> Self {
        match protocol {
            Protocol::Native => Self::Web(native::routes(shared.page_dir.as_deref())),
        }
    }

    /// Serves a connection; returns when it has ended or another task serves it.
    pub async fn serve(self, stream: ClientStream, connection: Connection) {
        match self {
            Self::Web(routes) => web::serve(stream, routes, connection).await,
        }
    }
}
