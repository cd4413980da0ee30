//! Builds a gateway, starts its parts in order and stops them in reverse.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parlance_proto::tls::{Role, TlsIdentity};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::config::{ClientTls, Config};
use crate::context::Context;
use crate::error::StartError;
use crate::fanout::push::push;
use crate::fanout::topics::Topics;
use crate::link::route::Router;
use crate::link::watch;
use crate::session::Session;
use crate::session::registry::Registry;
use crate::token::JwtVerifier;
use crate::ws::accept::Door;
use crate::ws::close::Close;
use crate::ws::connection;

/// Answers to requests under way hold a stop up for no longer.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Closing the last connections takes no longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running gateway. Dropping it stops it at once; [`Gateway::shutdown`] stops it gracefully.
pub struct Gateway {
    context: Arc<Context>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
    connections: TaskTracker,
}

impl Gateway {
    /// Binds the listener and begins to look for the cluster; returns before it is found, see [`Gateway::ready`].
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        config.validate().map_err(StartError::Config)?;
        let identity = TlsIdentity::load(&config.tls)?;
        if identity.role != Role::Gateway {
            return Err(StartError::WrongRole);
        }
        let tls = config.client_tls.as_ref().map(client_tls).transpose()?;
        if let Some(folder) = &mut config.page_dir {
            let found = std::fs::canonicalize(&*folder);
            *folder = found.map_err(|source| StartError::PageDir {
                path: folder.clone(),
                source,
            })?;
        }
        let bind = |source| StartError::Bind {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let door = Door {
            tls,
            page_dir: config.page_dir.clone(),
            timeout: config.limits.upgrade_timeout(),
        };

        let router = Router::new(config.gateway_id.clone(), identity);
        let registry = Arc::new(Registry::default());
        let sink = registry.clone();
        router.set_sink(Arc::new(move |publish| push(&sink, publish)));
        let seeds = config.nodes.clone();
        let context = Arc::new(Context {
            config,
            registry,
            router: router.clone(),
            topics: Topics::default(),
            verifier: Box::new(JwtVerifier::new()),
            draining: AtomicBool::new(false),
        });
        let background = vec![
            tokio::spawn(watch::seeds(seeds, router)),
            tokio::spawn(start_topics(context.clone())),
        ];
        let connections = TaskTracker::new();
        let accepting = tokio::spawn(accept(listener, door, context.clone(), connections.clone()));
        tracing::info!(gateway = context.config.gateway_id, %address, "gateway listens");
        Ok(Self {
            context,
            address,
            accepting,
            background,
            connections,
        })
    }

    /// Where clients connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Whether clients should be sent here; the error says why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.context.draining() {
            return Err("stopping".to_owned());
        }
        if self.context.router.with_view(|v| v.shard_count) == 0 {
            return Err("no node has told the cluster's state yet".to_owned());
        }
        if !self.context.router.linked() {
            return Err("no link to any node".to_owned());
        }
        Ok(())
    }

    /// Stops gracefully: no new clients; those here are told to go elsewhere and served until they have gone or
    /// `limits.drain_ms` is over; then the rest is closed with 1001. Not cancel-safe: dropping it stops at once.
    pub async fn shutdown(mut self) {
        self.context.draining.store(true, Ordering::Release);
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        self.connections.close();
        let drain_ms = self.context.config.limits.drain_ms;
        let sessions = self.context.registry.connections();
        tracing::info!(connections = sessions.len(), drain_ms, "draining");
        for session in sessions {
            match session.user() {
                Some(_) => {
                    let within = u32::try_from(drain_ms / 2).unwrap_or(u32::MAX);
                    connection::notify_reconnect(&session, within);
                }
                None => session.outbound.close(Close::GoingAway),
            }
        }
        let _ = timeout(Duration::from_millis(drain_ms), self.connections.wait()).await;
        self.close_rest().await;
        tracing::info!("gateway stopped");
    }

    async fn close_rest(&self) {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        for session in self.context.registry.connections() {
            let _ = timeout_at(deadline, session.settled()).await;
            session.outbound.close(Close::GoingAway);
        }
        if timeout(CLOSE_TIMEOUT, self.connections.wait())
            .await
            .is_err()
        {
            tracing::warn!("some connections did not close in time");
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.accepting.abort();
        self.background.iter().for_each(JoinHandle::abort);
        self.context.router.close();
        self.context
            .registry
            .connections()
            .iter()
            .for_each(|session: &Arc<Session>| session.outbound.close(Close::GoingAway));
    }
}

/// Subscriptions begin when the number of shards is known.
async fn start_topics(context: Arc<Context>) {
    let mut view = context.router.view();
    let Ok(shard_count) = view
        .wait_for(|v| v.shard_count > 0)
        .await
        .map(|v| v.shard_count)
    else {
        return;
    };
    drop(view);
    let _tasks = Tasks(
        context
            .topics
            .start(shard_count, &context.router, &context.registry),
    );
    std::future::pending::<()>().await;
}

/// Ends its tasks with itself.
struct Tasks(Vec<tokio::task::AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

async fn accept(
    listener: TcpListener,
    door: Door,
    context: Arc<Context>,
    connections: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(context.config.limits.connections_max));
    let door = Arc::new(door);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Above the limit a connection is closed at once: the client tries elsewhere.
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (door, context) = (door.clone(), context.clone());
        connections.spawn(async move {
            // Boxed, so that a WebSocket's task does not carry the room of its handshake for life.
            if let Some(upgraded) = Box::pin(door.admit(stream)).await {
                drop(door);
                connection::run(context, upgraded).await;
            }
            drop(place);
        });
    }
}

fn client_tls(files: &ClientTls) -> Result<TlsAcceptor, StartError> {
    let bad = |path: &Path, reason: String| StartError::ClientTls {
        path: path.to_owned(),
        reason,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|e| bad(&files.cert, e.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|e| bad(&files.key, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| bad(&files.cert, e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
