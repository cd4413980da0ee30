//! What the gateway sends without being asked.

use std::time::Duration;

use parlance_proto::client::v1::{Event, ReadCursor, server_frame};
use tokio::sync::mpsc;

/// What nobody asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Push {
    /// A new event of a conversation. At least once: drop what you have, by `seq`.
    Event(Event),
    /// Somebody's read cursor moved.
    ReadCursor(ReadCursor),
    /// Events may have been missed: list the conversations again and fetch what is new, within this many milliseconds.
    Resync {
        /// Upper end of the random delay, in ms.
        within_ms: u32,
    },
    /// The gateway is about to close: connect again, elsewhere if possible, within this many milliseconds.
    Reconnect {
        /// Upper end of the random delay, in ms.
        within_ms: u32,
    },
    /// The session's token is about to end: [`crate::Client::renew`] keeps the session, without it the connection closes.
    TokenExpiring {
        /// When it ends, in ms since 1970 UTC.
        token_expires_ms: i64,
        /// The same from now.
        within_ms: u32,
    },
}

/// A random part of a delay that a push names: many clients get the same one at the same moment.
#[allow(clippy::disallowed_methods, reason = "only that clients differ counts")]
pub fn random_part(within_ms: u32) -> Duration {
    Duration::from_millis(rand::random_range(0..=within_ms).into())
}

/// The pushes of one connection, in the order they came. Ends with the connection.
pub struct PushStream {
    pushes: mpsc::Receiver<Push>,
}

impl PushStream {
    pub(crate) fn new(pushes: mpsc::Receiver<Push>) -> Self {
        Self { pushes }
    }

    /// The next push; none once the connection has ended and all are taken. Cancel safe.
    pub async fn recv(&mut self) -> Option<Push> {
        self.pushes.recv().await
    }

    /// The next push if one is there already.
    pub fn try_recv(&mut self) -> Option<Push> {
        self.pushes.try_recv().ok()
    }
}

pub(crate) fn push_of(body: server_frame::Body) -> Option<Push> {
    use server_frame::Body;
    match body {
        Body::Event(event) => Some(Push::Event(event)),
        Body::ReadCursor(cursor) => Some(Push::ReadCursor(cursor)),
        Body::Resync(notice) => Some(Push::Resync {
            within_ms: notice.within_ms,
        }),
        Body::Reconnect(notice) => Some(Push::Reconnect {
            within_ms: notice.within_ms,
        }),
        Body::TokenExpiring(notice) => Some(Push::TokenExpiring {
            token_expires_ms: notice.token_expires_ms,
            within_ms: notice.within_ms,
        }),
        // An error that answers no request comes just before a close, which repeats it.
        _ => None,
    }
}
