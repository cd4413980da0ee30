//! The errors that leave this crate.

use std::net::SocketAddr;
use std::path::PathBuf;

use parlance_proto::tls::TlsError;

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
    #[error("tls.cert: needs a certificate with the role gateway")]
    WrongRole,
    /// A listener's certificate cannot be used.
    #[error("listener.tls: {path}: {reason}")]
    ListenerTls {
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
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
