//! The errors that leave this crate.

use std::net::SocketAddr;
use std::path::PathBuf;

use parlance_proto::tls::{Role, TlsError};

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings break their rules.
    #[error("settings are not allowed: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The cluster certificate cannot be used.
    #[error("cluster certificate: {0}")]
    Tls(#[from] TlsError),
    /// The cluster certificate speaks for someone else.
    #[error(
        "tls.cert: the certificate is one of {certificate}, not of gateway {gateway_id}: issue it with parlance ca issue gateway --id {gateway_id}"
    )]
    WrongRole {
        /// By the settings.
        gateway_id: String,
        /// Who the certificate speaks for.
        certificate: Role,
    },
    /// A listener's certificate cannot be used.
    #[error("listener.tls: {0}")]
    ListenerTls(TlsError),
    /// The page folder is missing.
    #[error("page_dir: {path}: {source}")]
    PageDir {
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The address cannot be bound.
    #[error("listener.address: cannot bind {address}: {source}")]
    Bind {
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}
