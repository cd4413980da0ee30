//! Certificates that are good and yet not to be believed: those whose key was stolen, by serial number.
//!
//! The list is asked in every handshake, of either side. Who keeps it cuts the connections that are there already.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{CertificateFacts, Serial};

/// Told of each certificate that is refused.
type OnRefused = Arc<dyn Fn(&Serial) + Send + Sync>;

/// The denied certificates of a cluster, as this process knows them. Clones are the same list.
#[derive(Clone, Default)]
pub struct DenyList {
    serials: Arc<RwLock<BTreeSet<Serial>>>,
    on_refused: Option<OnRefused>,
}

impl DenyList {
    /// An empty list; `on_refused` hears of each certificate that is refused in a handshake.
    pub fn new(on_refused: impl Fn(&Serial) + Send + Sync + 'static) -> Self {
        Self {
            serials: Arc::default(),
            on_refused: Some(Arc::new(on_refused)),
        }
    }

    /// Denies these and no others; whether that is news.
    pub fn set(&self, serials: BTreeSet<Serial>) -> bool {
        let mut now = self.serials.write();
        let news = *now != serials;
        *now = serials;
        news
    }

    /// Whether a certificate is denied.
    pub fn contains(&self, serial: &Serial) -> bool {
        self.serials.read().contains(serial)
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let facts = CertificateFacts::of(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if !self.contains(&facts.serial) {
            return Ok(());
        }
        if let Some(on_refused) = &self.on_refused {
            on_refused(&facts.serial);
        }
        Err(Error::InvalidCertificate(CertificateError::Revoked))
    }
}

impl fmt::Debug for DenyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.serials.read().iter()).finish()
    }
}

/// Checks clients as `inner` does, and then by the list.
#[derive(Debug)]
pub(super) struct ListedClients {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) denied: DenyList,
}

impl ClientCertVerifier for ListedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        self.denied.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Checks servers as `inner` does, and then by the list.
#[derive(Debug)]
pub(super) struct ListedServers {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    pub(super) denied: DenyList,
}

impl ServerCertVerifier for ListedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.denied.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
