//! One stream of a session: frames on their way from the session's writer to the server, which takes them as the gateway reads.
//! What nobody has taken when the session is closed is dropped at once: a gateway that reads nothing keeps no memory by that.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use parking_lot::Mutex;
use parlance_proto::link::v1::NodeFrame;
use tokio::sync::mpsc;
use tonic::Status;

use super::{Departing, LinkSession};

/// Frames that a stream may be behind.
const FRAMES_MAX: usize = 8;

type Untaken = Arc<Mutex<Option<mpsc::Receiver<Departing>>>>;

/// The frames of a stream, for the server.
pub(in crate::link) struct Frames(Untaken);

/// What ends a stream whose session is closed. To be used once its writer is gone, which tells the server to look.
pub(in crate::link) struct Ending(Untaken);

/// The channel between a session's writer and the server, and what ends it.
pub(in crate::link) fn stream_channel() -> (mpsc::Sender<Departing>, Frames, Ending) {
    let (to, from) = mpsc::channel(FRAMES_MAX);
    let untaken = Arc::new(Mutex::new(Some(from)));
    (to, Frames(untaken.clone()), Ending(untaken))
}

impl Stream for Frames {
    type Item = Result<NodeFrame, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut untaken = self.0.lock();
        let Some(from) = untaken.as_mut() else {
            return Poll::Ready(None);
        };
        from.poll_recv(context)
            .map(|departing| departing.map(|departing| Ok(departing.frame)))
    }
}

impl Ending {
    /// Drops what the server has not taken, if the session will not send it again.
    pub(in crate::link) fn of(self, session: &LinkSession) {
        if session.is_closed() {
            *self.0.lock() = None;
        }
    }
}
