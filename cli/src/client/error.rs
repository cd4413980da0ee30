//! What can go wrong between a client and its gateway.

use std::time::Duration;

use parlance_proto::common::v1::Error;

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
        /// Which request, as in `send`.
        request: &'static str,
        /// The time that it was given.
        after: Duration,
    },
    /// The connection could not be made.
    #[error("cannot connect to {url}: {reason}")]
    Connect {
        /// Where to.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The gateway sent something that is no frame of the protocol, or the wrong kind of answer.
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
        use parlance_proto::common::v1::ErrorCode;
        match self {
            ClientError::Rejected(error) => error.code() == ErrorCode::OutcomeUnknown,
            ClientError::Closed(_) | ClientError::Timeout { .. } | ClientError::Protocol(_) => true,
            ClientError::Connect { .. } => false,
        }
    }
}

/// How a connection ended. The ranges of the codes are those of `docs/protocol.md`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closed {
    /// The WebSocket close code; none if the connection was cut without one.
    pub code: Option<u16>,
    /// The gateway's words, or what the socket said.
    pub reason: String,
}

impl Closed {
    pub(super) fn cut(reason: impl Into<String>) -> Self {
        Self {
            code: None,
            reason: reason.into(),
        }
    }

    /// Whether connecting again makes sense: not after 1000, 1009 and 4000–4099.
    pub fn may_reconnect(&self) -> bool {
        !matches!(self.code, Some(1000 | 1009 | 4000..=4099))
    }
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.reason.is_empty()) {
            (Some(code), true) => write!(f, "code {code}"),
            (Some(code), false) => write!(f, "code {code}, {}", self.reason),
            (None, true) => f.write_str("without a close code"),
            (None, false) => f.write_str(&self.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_close_code_says_whether_to_reconnect() {
        let closed = |code| Closed {
            code,
            reason: String::new(),
        };
        for code in [
            None,
            Some(1001),
            Some(1006),
            Some(4100),
            Some(4103),
            Some(4199),
        ] {
            assert!(closed(code).may_reconnect(), "{code:?}");
        }
        for code in [1000, 1009, 4000, 4002, 4099] {
            assert!(!closed(Some(code)).may_reconnect(), "{code}");
        }
    }
}
