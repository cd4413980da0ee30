//! The certificate of a listener: followed as its files change, so that clients keep their connections when it is renewed.

use std::sync::Arc;

use parlance_proto::tls::{CertificateFacts, TlsError, chain_and_key};
use parlance_tls::{Expires, Followed};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::ListenerTls;
use crate::error::StartError;

/// What a listener shows to clients.
pub struct ListenerCertificate {
    name: String,
    key: Arc<CertifiedKey>,
    facts: CertificateFacts,
}

impl Expires for ListenerCertificate {
    fn expires(&self) -> Vec<(String, i64)> {
        vec![(self.name.clone(), self.facts.expires_s)]
    }
}

/// Reads the certificate of a listener, and goes on doing so.
pub(super) fn follow(
    number: usize,
    files: &ListenerTls,
) -> Result<Arc<Followed<ListenerCertificate>>, StartError> {
    let name = format!("listener-{number}");
    let paths = vec![files.cert.clone(), files.key.clone()];
    let (shown, files) = (name.clone(), files.clone());
    Followed::open(name, paths, move |contents, _| {
        parse(shown.clone(), &files, &contents)
    })
    .map_err(StartError::ListenerTls)
}

fn parse(
    name: String,
    files: &ListenerTls,
    contents: &[Vec<u8>],
) -> Result<ListenerCertificate, TlsError> {
    let [cert, key] = [0, 1].map(|place| contents.get(place).map_or(&[][..], Vec::as_slice));
    let key = chain_and_key((files.cert.as_path(), cert), (files.key.as_path(), key))?;
    let facts = CertificateFacts::of(key.end_entity_cert()?)?;
    Ok(ListenerCertificate {
        name,
        key: Arc::new(key),
        facts,
    })
}

/// Takes TLS connections with the certificate as it is at each.
pub(super) fn acceptor(
    certificate: &Arc<Followed<ListenerCertificate>>,
) -> Result<TlsAcceptor, StartError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |e: rustls::Error| StartError::ListenerTls(e.into());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Newest(certificate.clone())));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // All clients of a lost gateway come at once, and those that were here before come cheaply.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Shows the certificate as its files have it now.
struct Newest(Arc<Followed<ListenerCertificate>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.now().key.clone())
    }
}

impl std::fmt::Debug for Newest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Newest")
    }
}
