//! Who is who: certificates of one cluster, roles in their DNS names, PEM files to rustls configurations, and the
//! certificates that are denied although they are good.
//!
//! A node's certificate names `node-<id>.parlance.internal` and `node.parlance.internal`, a gateway's
//! `gateway-<id>.parlance.internal`, an operator's `admin.parlance.internal`. Addresses play no part: a process may
//! move, its identity stays. Nothing here waits or looks at a clock: files that change are the crate `parlance-tls`'s.

mod certificate;
mod denied;
mod identity;
mod role;

use std::path::PathBuf;

pub use certificate::{BadSerial, CertificateFacts, Serial, Standing, common_name};
pub use denied::DenyList;
pub use identity::{PemFiles, TlsIdentity, chain_and_key};
pub use role::{ANY_NODE, DOMAIN, GATEWAY_ID_BYTES_MAX, Role, is_gateway_id, node_name, role_of};

/// Where a process finds its certificate, its key and the cluster's CA, all PEM.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificates of the cluster's CA: one, or two while the cluster moves from one to the other.
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
    #[error("the CA cannot be used to check others: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The certificate has no name of ours.
    #[error(
        "the certificate names no Parlance role: it needs a DNS name such as node-1.{DOMAIN}, gateway-east-1.{DOMAIN} or admin.{DOMAIN}"
    )]
    NoRole,
    /// The certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// What the files hold now is somebody else's.
    #[error(
        "the certificate is now one of {now}, and was one of {before}: a process keeps its identity"
    )]
    AnotherRole {
        /// Who the process is.
        before: Role,
        /// By the new certificate.
        now: Role,
    },
}
