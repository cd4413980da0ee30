//! Who is who: certificates of one cluster CA, roles in their DNS names, PEM files to rustls configurations.
//!
//! A node's certificate names `node-<id>.parlance.internal` and `node.parlance.internal`, a gateway's
//! `gateway.parlance.internal`, an operator's `admin.parlance.internal`. Addresses play no part: a process may
//! move, its identity stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The suffix of all names in certificates.
pub const DOMAIN: &str = "parlance.internal";

/// The name that every node answers to.
pub const ANY_NODE: &str = "node.parlance.internal";

/// Who a certificate speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A node, by id.
    Node(u64),
    /// A gateway.
    Gateway,
    /// An operator.
    Admin,
}

impl Role {
    /// The DNS names that a certificate of this role carries.
    pub fn dns_names(self) -> Vec<String> {
        match self {
            Role::Node(id) => vec![node_name(id), ANY_NODE.to_owned()],
            Role::Gateway => vec![format!("gateway.{DOMAIN}")],
            Role::Admin => vec![format!("admin.{DOMAIN}")],
        }
    }
}

/// The name of one node.
pub fn node_name(node_id: u64) -> String {
    format!("node-{node_id}.{DOMAIN}")
}

/// Where a process finds its certificate, its key and the cluster's CA, all PEM.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The cluster's CA certificate.
    pub ca: PathBuf,
    /// This process's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is missing or is not PEM of the right kind.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate and the key do not fit, or are of an unknown kind.
    #[error("certificate or key cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// The client verifier could not be built.
    #[error("the CA cannot be used to check clients: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The certificate has no name of ours.
    #[error(
        "the certificate names no Parlance role: it needs a DNS name such as node-1.{DOMAIN}, gateway.{DOMAIN} or admin.{DOMAIN}"
    )]
    NoRole,
}

/// PEM bytes of a [`TlsFiles`], checked.
pub struct TlsIdentity {
    /// The cluster's CA.
    pub ca_pem: Vec<u8>,
    /// This process's certificate.
    pub cert_pem: Vec<u8>,
    /// Its key.
    pub key_pem: Vec<u8>,
    /// Who the certificate speaks for.
    pub role: Role,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsIdentity {
    /// Reads and checks the files.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let ca_pem = read(&files.ca)?;
        let cert_pem = read(&files.cert)?;
        let key_pem = read(&files.key)?;
        let bad = |path: &Path, reason: String| TlsError::File {
            path: path.to_owned(),
            reason,
        };
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(&ca_pem) {
            let cert = cert.map_err(|e| bad(&files.ca, e.to_string()))?;
            roots.add(cert).map_err(|e| bad(&files.ca, e.to_string()))?;
        }
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&cert_pem)
            .collect::<Result<_, _>>()
            .map_err(|e| bad(&files.cert, e.to_string()))?;
        let leaf = chain
            .first()
            .ok_or_else(|| bad(&files.cert, "no certificate in it".into()))?;
        let role = role_of(leaf)?;
        let key =
            PrivateKeyDer::from_pem_slice(&key_pem).map_err(|e| bad(&files.key, e.to_string()))?;
        Ok(Self {
            ca_pem,
            cert_pem,
            key_pem,
            role,
            roots: Arc::new(roots),
            chain,
            key,
        })
    }

    /// For a listener that wants a client certificate of our CA, TLS 1.3 only.
    pub fn server_config(&self, alpn: &[u8]) -> Result<rustls::ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            self.roots.clone(),
            provider.clone(),
        )
        .build()?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }

    /// For dialling a listener of the cluster, TLS 1.3 only.
    pub fn client_config(&self, alpn: &[u8]) -> Result<rustls::ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }
}

/// The common name in a certificate's subject: what it is called, for people. Nothing is allowed by it.
pub fn common_name(leaf: &CertificateDer<'_>) -> Option<String> {
    /// An object identifier in DER: 2.5.4.3.
    const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
    let cert = webpki::EndEntityCert::try_from(leaf).ok()?;
    let subject = cert.subject();
    let at = subject
        .windows(COMMON_NAME.len())
        .position(|window| window == COMMON_NAME)?;
    // The kind of text, its length in one byte, and the text.
    let [_, length, rest @ ..] = subject.get(at + COMMON_NAME.len()..)? else {
        return None;
    };
    let text = rest.get(..usize::from(*length))?;
    let text = std::str::from_utf8(text).ok()?;
    Some(text.chars().filter(|c| !c.is_control()).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|e| TlsError::File {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

/// Who a certificate speaks for, by its DNS names. The caller has checked the signature.
pub fn role_of(leaf: &CertificateDer<'_>) -> Result<Role, TlsError> {
    let cert = webpki::EndEntityCert::try_from(leaf).map_err(|_| TlsError::NoRole)?;
    let suffix = format!(".{DOMAIN}");
    for name in cert.valid_dns_names() {
        let Some(host) = name.strip_suffix(&suffix) else {
            continue;
        };
        match host {
            "gateway" => return Ok(Role::Gateway),
            "admin" => return Ok(Role::Admin),
            _ => {
                if let Some(id) = host.strip_prefix("node-").and_then(|id| id.parse().ok()) {
                    return Ok(Role::Node(id));
                }
            }
        }
    }
    Err(TlsError::NoRole)
}
