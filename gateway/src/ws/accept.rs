//! From a TCP connection to a WebSocket: TLS if configured, one HTTP/1.1 conversation (static pages, the upgrade
//! at `/ws`), all within one time limit. Afterwards nothing of HTTP remains in memory.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::codec::Format;
use super::page;
use super::stream::ClientStream;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How clients are let in.
#[derive(Clone)]
pub struct Door {
    /// TLS of the client listener.
    pub tls: Option<TlsAcceptor>,
    /// Static files, an absolute path.
    pub page_dir: Option<PathBuf>,
    /// From the connection to the upgrade.
    pub timeout: Duration,
}

/// A connection that became a WebSocket.
pub struct Upgraded {
    /// The socket.
    pub stream: ClientStream,
    /// What the client sent behind its upgrade request.
    pub read: Vec<u8>,
    /// The agreed wire format.
    pub format: Format,
}

type Slot = Arc<Mutex<Option<(OnUpgrade, Format)>>>;

impl Door {
    /// Serves HTTP until the connection ends (none) or is upgraded.
    pub async fn admit(&self, stream: TcpStream) -> Option<Upgraded> {
        timeout(self.timeout, self.serve(stream))
            .await
            .ok()
            .flatten()
    }

    async fn serve(&self, stream: TcpStream) -> Option<Upgraded> {
        let stream = match &self.tls {
            None => ClientStream::Plain(stream),
            Some(tls) => ClientStream::Tls(Box::new(tls.accept(stream).await.ok()?)),
        };
        let slot = Slot::default();
        let service = hyper::service::service_fn(|request| self.answer(request, slot.clone()));
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await
            .ok()?;
        let (on_upgrade, format) = slot.lock().take()?;
        let parts = on_upgrade
            .await
            .ok()?
            .downcast::<TokioIo<ClientStream>>()
            .ok()?;
        Some(Upgraded {
            stream: parts.io.into_inner(),
            // Copied: it lies in the HTTP server's buffer of 8 KiB, which the socket would keep for life.
            read: parts.read_buf.to_vec(),
            format,
        })
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        slot: Slot,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        if request.uri().path() == "/ws" {
            return Ok(upgrade(request, &slot));
        }
        if request.method() != Method::GET {
            return Ok(page::plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET is allowed\n",
            ));
        }
        match &self.page_dir {
            Some(folder) => Ok(page::serve(folder, request.uri().path()).await),
            None => Ok(page::plain(
                StatusCode::NOT_FOUND,
                "the WebSocket is at /ws\n",
            )),
        }
    }
}

fn upgrade(mut request: Request<Incoming>, slot: &Slot) -> Response<Full<Bytes>> {
    let headers = request.headers();
    let text = |name: header::HeaderName| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let names = |list: &str, name: &str| {
        list.split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(name))
    };
    let asked = request.method() == Method::GET
        && names(text(header::CONNECTION), "upgrade")
        && names(text(header::UPGRADE), "websocket")
        && text(header::SEC_WEBSOCKET_VERSION) == "13";
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| asked) else {
        return page::plain(
            StatusCode::BAD_REQUEST,
            "a WebSocket upgrade (version 13) is needed here\n",
        );
    };
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let Some(format) = offers
        .iter()
        .filter_map(|v| v.to_str().ok())
        .find_map(Format::negotiate)
    else {
        return page::plain(
            StatusCode::BAD_REQUEST,
            "offer the subprotocol parlance.v1 or parlance.v1.json\n",
        );
    };
    let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) else {
        return page::plain(
            StatusCode::BAD_REQUEST,
            "the WebSocket key is not allowed\n",
        );
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(format.protocol()),
    );
    *slot.lock() = Some((hyper::upgrade::on(&mut request), format));
    response
}
