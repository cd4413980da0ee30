//! What the gateway sends without being asked.

use parlance_proto::client::v1::{Event, ReadCursor, server_frame};
use tokio::sync::mpsc;

/// What nobody asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Push {
    /// A new event of a conversation. At least once: drop what you have, by `seq`.
    Event(Event),
    /// Somebody's read cursor moved.
    ReadCursor(ReadCursor),
    /// Events may have been missed: list the conversations again and fetch what is new.
    Resync,
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
        Body::Resync(_) => Some(Push::Resync),
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
