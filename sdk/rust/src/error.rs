//! What can go wrong between a client and its gateway.

use std::time::Duration;

use parlance_proto::common::v1::{Error, ErrorCode};

use crate::wire::{Closed, ConnectError};

/// Why a request or a connection failed. Cheap to clone: every waiting request of a lost connection gets one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The gateway answered with an error; the connection lives on.
    #[error("{0}")]
    Rejected(Error),
    /// The connection ended before the answer came. A send may or may not have been stored.
    #[error("the connection was closed: {0}")]
    Closed(Closed),
    /// No answer in time; the connection lives on. A send may or may not have been stored.
    #[error("no answer to {request} within {after:?}")]
    Timeout {
        /// [`crate::Request::NAME`].
        request: &'static str,
        /// [`crate::Options::request_timeout`].
        after: Duration,
    },
    /// The connection could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The gateway answered with another kind of answer than the request's.
    #[error("the gateway broke the protocol: {0}")]
    Protocol(String),
}

impl ClientError {
    /// The error that the gateway answered with, if it did.
    pub fn rejected(&self) -> Option<&Error> {
        match self {
            ClientError::Rejected(error) => Some(error),
            _ => None,
        }
    }

    /// Whether it is unknown if the request took effect.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            ClientError::Rejected(error) => error.code() == ErrorCode::OutcomeUnknown,
            ClientError::Closed(_) | ClientError::Timeout { .. } | ClientError::Protocol(_) => true,
            ClientError::Connect(_) => false,
        }
    }
}
