//! What can go wrong with a socket.

/// A connection could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot connect to {url}: {reason}")]
pub struct ConnectError {
    /// The address as it was given.
    pub url: String,
    /// Why not, in words for a person.
    pub reason: String,
}

impl ConnectError {
    pub(crate) fn new(url: &str, reason: impl Into<String>) -> Self {
        Self {
            url: url.to_owned(),
            reason: reason.into(),
        }
    }
}

/// A connection broke. Nothing more can be read from it or written to it.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The socket ended without a close frame.
    #[error("the connection ended without a close frame")]
    Ended,
    /// The gateway sent something that the protocol does not allow.
    #[error("the gateway broke the protocol: {0}")]
    Protocol(String),
}
