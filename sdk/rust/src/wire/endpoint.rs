//! A gateway's address, resolved once and dialled often.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tungstenite::http::Uri;

use super::upgrade::upgrade;
use super::{ConnectError, Format, Reader, Writer, tls};

/// Where a gateway listens, from `ws://host:port/path` or `wss://…`.
#[derive(Clone)]
pub struct Endpoint {
    url: String,
    uri: Uri,
    addresses: Vec<SocketAddr>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Endpoint {
    /// Parses the address, looks its host up, and reads whom to trust: the PEM file `gateway_ca`, or else the
    /// authorities of the system. There is no time limit.
    ///
    /// # Errors
    /// If the address is malformed, the host is unknown, or the file cannot be read.
    pub async fn resolve(url: &str, gateway_ca: Option<&Path>) -> Result<Self, ConnectError> {
        let failed = |reason: String| ConnectError::new(url, reason);
        let uri: Uri = url
            .parse()
            .map_err(|_| failed("the address must look like ws://host:port/ws".to_owned()))?;
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => {
                return Err(failed(
                    "the address must begin with ws:// or wss://".to_owned(),
                ));
            }
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = tokio::net::lookup_host((host, port))
            .await
            .map_err(|e| failed(e.to_string()))?
            .collect();
        let tls = if secure {
            let name = ServerName::try_from(host.to_owned()).map_err(|e| failed(e.to_string()))?;
            Some((tls::connector(gateway_ca).map_err(failed)?, name))
        } else {
            None
        };
        Ok(Self {
            url: url.to_owned(),
            uri,
            addresses,
            tls,
        })
    }

    /// What the host's name stands for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether connections are encrypted.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects, with TLS if the address says so, and upgrades; `source` is the local address to come from. There is
    /// no time limit.
    ///
    /// # Errors
    /// If nothing answers at the address, or what answers does not speak the protocol.
    pub async fn open(
        &self,
        format: Format,
        source: Option<IpAddr>,
    ) -> Result<(Reader, Writer), ConnectError> {
        self.open_socket(format, source)
            .await
            .map_err(|reason| ConnectError::new(&self.url, reason))
    }

    async fn open_socket(
        &self,
        format: Format,
        source: Option<IpAddr>,
    ) -> Result<(Reader, Writer), String> {
        let mut tcp = self.dial(source).await?;
        let Some((connector, name)) = &self.tls else {
            let inbox = upgrade(&mut tcp, &self.uri, format).await?;
            let (read, write) = tcp.into_split();
            let reader = Reader::new(Either::Left(read), format, inbox);
            return Ok((reader, Writer::new(Either::Left(write), format)));
        };
        let connected = connector.connect(name.clone(), tcp).await;
        let mut stream = connected.map_err(|e| e.to_string())?;
        let inbox = upgrade(&mut stream, &self.uri, format).await?;
        let (read, write) = tokio::io::split(stream);
        let reader = Reader::new(Either::Right(read), format, inbox);
        Ok((reader, Writer::new(Either::Right(write), format)))
    }

    /// Tries the host's addresses in turn.
    async fn dial(&self, source: Option<IpAddr>) -> Result<TcpStream, String> {
        let mut reason = "the host has no address".to_owned();
        for address in &self.addresses {
            match dial_one(*address, source).await {
                Ok(tcp) => return Ok(tcp),
                Err(e) => reason = e.to_string(),
            }
        }
        Err(reason)
    }
}

async fn dial_one(address: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let tcp = socket.connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
