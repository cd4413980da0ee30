//! Dials a gateway: TCP, TLS for `wss://`, the WebSocket upgrade.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request, header::SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, error::UrlError};

use crate::client::{ClientError, Options};

/// Answers of history are the largest frames; far above their limit, and still a bound.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Frames that are ready together leave in one write of at most about this size.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// Connects within the time that the options give.
pub(super) async fn dial(
    url: &str,
    options: &Options,
) -> Result<WebSocketStream<Socket>, ClientError> {
    let failed = |reason: String| ClientError::Connect {
        url: url.to_owned(),
        reason,
    };
    match tokio::time::timeout(options.connect_timeout, dial_untimed(url, options)).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(format!(
            "no answer within {:?}",
            options.connect_timeout
        ))),
    }
}

async fn dial_untimed(url: &str, options: &Options) -> Result<WebSocketStream<Socket>, String> {
    let mut request = url.into_client_request().map_err(describe)?;
    request.headers_mut().insert(
        SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(options.format.subprotocol()),
    );
    let socket = open_socket(&request, options).await?;
    let config = WebSocketConfig::default()
        .read_buffer_size(options.read_buffer_bytes)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let (stream, _) = tokio_tungstenite::client_async_with_config(request, socket, Some(config))
        .await
        .map_err(describe)?;
    Ok(stream)
}

async fn open_socket(request: &Request<()>, options: &Options) -> Result<Socket, String> {
    let uri = request.uri();
    let host = uri
        .host()
        .ok_or("the address names no host")?
        .trim_matches(['[', ']'])
        .to_owned();
    let secure = match uri.scheme_str() {
        Some("ws") => false,
        Some("wss") => true,
        _ => return Err("the address must begin with ws:// or wss://".to_owned()),
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tcp = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|e| e.to_string())?;
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    if !secure {
        return Ok(Socket::Plain(tcp));
    }
    let config = tls_config(options)?;
    let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|e| e.to_string())?;
    Ok(Socket::Tls(Box::new(tls)))
}

fn tls_config(options: &Options) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    match &options.gateway_ca {
        Some(path) => {
            let shown = path.display();
            for cert in CertificateDer::pem_file_iter(path).map_err(|e| format!("{shown}: {e}"))? {
                roots
                    .add(cert.map_err(|e| format!("{shown}: {e}"))?)
                    .map_err(|e| format!("{shown}: {e}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn describe(error: WsError) -> String {
    match error {
        WsError::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(body);
            format!(
                "the gateway answered HTTP {} {}",
                response.status(),
                text.trim()
            )
            .trim_end()
            .to_owned()
        }
        WsError::Url(UrlError::NoHostName | UrlError::UnsupportedUrlScheme) => {
            "the address must look like ws://host:port/ws".to_owned()
        }
        other => other.to_string(),
    }
}

/// A connection to a gateway, in the clear or with TLS.
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Socket::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Socket::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Socket::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
