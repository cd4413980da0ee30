//! HTTP/1.1 for the endpoints that begin with it: one connection, its routes, one time limit. An upgraded socket leaves
//! nothing of HTTP in memory.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tower_service::Service as _;

use super::{ClientStream, Connection};

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Answers requests until the connection ends, is upgraded, or its time is over. Handlers find the [`Connection`] among
/// a request's extensions.
pub async fn serve(stream: ClientStream, routes: Router, connection: Connection) {
    let limit = connection.shared.api.limits.upgrade_timeout();
    let connection = Arc::new(connection);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let mut routes = routes.clone();
        request.extensions_mut().insert(connection.clone());
        async move { Ok::<_, Infallible>(answer(&mut routes, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // Clients come and go: what ends one connection is nobody's concern.
    let _ = timeout(limit, served).await;
}

async fn answer(routes: &mut Router, request: Request<Incoming>) -> axum::response::Response<Body> {
    match routes.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The socket of an upgraded connection, and what the client has sent behind its request.
pub async fn upgraded(upgrade: OnUpgrade) -> Option<(ClientStream, Vec<u8>)> {
    let parts = upgrade
        .await
        .ok()?
        .downcast::<TokioIo<ClientStream>>()
        .ok()?;
    // Copied: it lies in the HTTP server's buffer of 8 KiB, which the socket would keep for life.
    Some((parts.io.into_inner(), parts.read_buf.to_vec()))
}
