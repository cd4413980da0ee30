//! What a session keeps: what waits, and the numbered frames that are not acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parlance_proto::link::v1::{NodeFrame, Response};
use prost::Message;
use tokio::time::Instant;

use super::Receipt;
use crate::link::held::Held;
use crate::totals::Part;

/// Bytes of one frame, soft.
pub(super) const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// What a session is and has.
pub(super) struct Inner {
    pub(super) responses: Vec<Response>,
    pub(super) publishes: Vec<Bytes>,
    pub(super) receipts: Vec<Option<Receipt>>,
    /// Bytes of responses and publishes that are in no frame yet.
    pub(super) waiting: Part,
    pub(super) next_number: u64,
    pub(super) unacknowledged: VecDeque<Sent>,
    pub(super) unacknowledged_bytes: usize,
    /// The highest frame number received from the gateway.
    pub(super) received: u64,
    /// Counts streams: only the newest may write.
    pub(super) stream: u64,
    pub(super) connected: bool,
    pub(super) closed: bool,
}

/// A frame that the gateway may not have.
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) since: Instant,
    pub(super) frame: NodeFrame,
    pub(super) counted: Arc<Part>,
    pub(super) receipts: Vec<Option<Receipt>>,
}

/// A frame on its way into a stream. It counts until the stream has taken it, also when its session is over by then.
pub(in crate::link) struct Departing {
    pub(in crate::link) frame: NodeFrame,
    _counted: Option<Arc<Part>>,
}

impl From<NodeFrame> for Departing {
    /// A frame that is not worth counting.
    fn from(frame: NodeFrame) -> Self {
        let _counted = None;
        Self { frame, _counted }
    }
}

impl Inner {
    pub(super) fn new(held: &Held) -> Self {
        Self {
            responses: Vec::new(),
            publishes: Vec::new(),
            receipts: Vec::new(),
            waiting: held.part(),
            next_number: 1,
            unacknowledged: VecDeque::new(),
            unacknowledged_bytes: 0,
            received: 0,
            stream: 0,
            connected: false,
            closed: false,
        }
    }

    /// Bytes that wait or are unacknowledged.
    pub(super) fn held(&self) -> usize {
        self.waiting.used() + self.unacknowledged_bytes
    }

    /// The first unacknowledged frame from `number` on, or a new one of what waits. If nothing does, and all is acknowledged, one
    /// with nothing in it if `ask` is set: whoever acknowledges it is there.
    pub(super) fn frame_from(&mut self, number: u64, ask: bool, held: &Held) -> Option<Departing> {
        let ack = self.received;
        if let Some(sent) = self
            .unacknowledged
            .iter()
            .find(|sent| sent.number >= number)
        {
            return Some(Departing {
                frame: NodeFrame {
                    ack,
                    ..sent.frame.clone()
                },
                _counted: Some(sent.counted.clone()),
            });
        }
        let nothing_waits = self.responses.is_empty() && self.publishes.is_empty();
        if nothing_waits && !(ask && self.unacknowledged.is_empty()) {
            return None;
        }
        let frame = NodeFrame {
            number: self.next_number,
            ack,
            welcome: None,
            responses: take_first(&mut self.responses, FRAME_BYTES_MAX, Message::encoded_len),
            publishes: take_first(&mut self.publishes, FRAME_BYTES_MAX, Bytes::len),
        };
        let receipts = self.receipts.drain(..frame.publishes.len()).collect();
        let bytes = frame.encoded_len();
        let responses = frame.responses.iter().map(Message::encoded_len);
        let publishes = frame.publishes.iter().map(Bytes::len);
        let taken = responses.chain(publishes).sum::<usize>();
        let mut counted = held.part();
        counted.set(bytes);
        let counted = Arc::new(counted);
        self.waiting.set(self.waiting.used() - taken);
        self.next_number += 1;
        self.unacknowledged_bytes += bytes;
        self.unacknowledged.push_back(Sent {
            number: frame.number,
            since: Instant::now(),
            frame: frame.clone(),
            counted: counted.clone(),
            receipts,
        });
        let _counted = Some(counted);
        Some(Departing { frame, _counted })
    }
}

/// Takes messages from the front until they have `max` bytes.
fn take_first<M>(messages: &mut Vec<M>, max: usize, size: impl Fn(&M) -> usize) -> Vec<M> {
    let mut bytes = 0;
    let fits = messages.iter().take_while(|message| {
        let room = bytes < max;
        bytes += size(message);
        room
    });
    let count = fits.count();
    if count == messages.len() {
        std::mem::take(messages)
    } else {
        messages.drain(..count).collect()
    }
}
