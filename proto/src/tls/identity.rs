//! The certificate, the key and the CA of one process, checked, and the rustls configurations made of them.

use std::path::Path;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::denied::{ListedClients, ListedServers};
use super::{CertificateFacts, DenyList, Role, TlsError, TlsFiles, role_of};

/// What the files of a [`TlsFiles`] hold.
#[derive(Clone, PartialEq, Eq)]
pub struct PemFiles {
    /// The certificates of the cluster's CA.
    pub ca: Vec<u8>,
    /// This process's certificate.
    pub cert: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

/// The contents of a [`TlsFiles`], checked.
pub struct TlsIdentity {
    /// As they were read.
    pub pem: PemFiles,
    /// Who the certificate speaks for.
    pub role: Role,
    /// What the certificate says of itself.
    pub certificate: CertificateFacts,
    /// The same of each certificate of the CA.
    pub authorities: Vec<CertificateFacts>,
    roots: Arc<RootCertStore>,
    key: Arc<CertifiedKey>,
}

impl TlsIdentity {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// See [`TlsIdentity::from_pem`]; files that cannot be read.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let pem = PemFiles {
            ca: read(&files.ca)?,
            cert: read(&files.cert)?,
            key: read(&files.key)?,
        };
        Self::from_pem(files, pem)
    }

    /// Checks what the files held.
    ///
    /// # Errors
    /// What is not PEM of the right kind, a key that is not the certificate's, a certificate without a role.
    pub fn from_pem(files: &TlsFiles, pem: PemFiles) -> Result<Self, TlsError> {
        let (mut roots, mut authorities) = (RootCertStore::empty(), Vec::new());
        for cert in CertificateDer::pem_slice_iter(&pem.ca) {
            let cert = cert.map_err(|e| bad(&files.ca, e.to_string()))?;
            authorities.push(CertificateFacts::of(&cert)?);
            roots.add(cert).map_err(|e| bad(&files.ca, e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(bad(&files.ca, "no certificate in it".into()));
        }
        let key = chain_and_key(
            (files.cert.as_path(), pem.cert.as_slice()),
            (files.key.as_path(), pem.key.as_slice()),
        )?;
        let leaf = key.end_entity_cert()?;
        let (role, certificate) = (role_of(leaf)?, CertificateFacts::of(leaf)?);
        Ok(Self {
            pem,
            role,
            certificate,
            authorities,
            roots: Arc::new(roots),
            key: Arc::new(key),
        })
    }

    /// Whether others that have the same CA would believe this certificate now.
    ///
    /// # Errors
    /// A certificate that has ended, has not begun, or is not one of the CA's.
    pub fn check(&self, now: UnixTime) -> Result<(), TlsError> {
        let leaf = self.key.end_entity_cert()?;
        let intermediates = self.key.cert.get(1..).unwrap_or_default();
        self.client_verifier()?
            .verify_client_cert(leaf, intermediates, now)?;
        Ok(())
    }

    /// For a listener that wants a client certificate of our CA that is not denied, TLS 1.3 only.
    ///
    /// No session is resumed: a resumed one would not be asked for its certificate.
    ///
    /// # Errors
    /// A CA that cannot be used to check others.
    pub fn server_config(&self, alpn: &[u8], denied: &DenyList) -> Result<ServerConfig, TlsError> {
        let verifier = ListedClients {
            inner: self.client_verifier()?,
            denied: denied.clone(),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.key.clone())));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// For dialling a listener of the cluster whose certificate is not denied, TLS 1.3 only.
    ///
    /// # Errors
    /// A CA that cannot be used to check others.
    pub fn client_config(&self, alpn: &[u8], denied: &DenyList) -> Result<ClientConfig, TlsError> {
        let inner =
            WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider()).build()?;
        let verifier = ListedServers {
            inner,
            denied: denied.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous() // it adds a check to the usual ones
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.key.clone())));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let roots = self.roots.clone();
        Ok(WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?)
    }
}

/// A certificate chain and its key, from the paths and contents of two PEM files.
///
/// # Errors
/// What is not PEM of the right kind, and a key that is not the certificate's.
pub fn chain_and_key(
    (cert_path, cert): (&Path, &[u8]),
    (key_path, key): (&Path, &[u8]),
) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<_, _>>()
        .map_err(|e| bad(cert_path, e.to_string()))?;
    if chain.is_empty() {
        return Err(bad(cert_path, "no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| bad(key_path, e.to_string()))?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map_err(|e| bad(key_path, e.to_string()))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn bad(path: &Path, reason: String) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        reason,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|e| bad(path, e.to_string()))
}
