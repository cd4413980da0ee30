//! What many sessions get: a frame as its node encoded it, and its form in each other dialect, encoded when the first
//! session needs it and shared from then on.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_proto::client::v1::{ServerFrame, server_frame};
use prost::Message as _;
use tokio::time::Instant;

use crate::bounds::{Budget, Charge};

/// How an endpoint writes pushes, if not as they come. Sessions of one dialect share the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect(pub &'static str);

/// One push.
#[derive(Debug)]
pub struct Push {
    frame: Bytes,
    arrived: Instant,
    forms: Mutex<Forms>,
    notice: bool,
}

#[derive(Debug, Default)]
struct Forms {
    encoded: Vec<(Dialect, Bytes)>,
    /// The bytes of the frame and of these, once for all sessions.
    charge: Option<Charge>,
}

impl Push {
    /// A push of an encoded `ServerFrame` that has arrived just now, and which can be fetched instead. Its bytes count in
    /// `memory` while it waits.
    pub fn new(frame: Bytes, memory: &Arc<Budget>) -> Self {
        let charge = Some(memory.take(frame.len()));
        let encoded = Vec::new();
        Self {
            frame,
            arrived: Instant::now(),
            forms: Mutex::new(Forms { encoded, charge }),
            notice: false,
        }
    }

    /// A push that this gateway makes itself.
    pub fn notice(body: server_frame::Body) -> Self {
        let frame = ServerFrame {
            request_id: 0,
            body: Some(body),
        };
        Self {
            frame: frame.encode_to_vec().into(),
            arrived: Instant::now(),
            forms: Mutex::default(),
            notice: true,
        }
    }

    /// Whether it is one that no client can fetch.
    pub fn is_notice(&self) -> bool {
        self.notice
    }

    /// When it came.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The encoded `ServerFrame`.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The push in another dialect; `encode` makes it of the frame if no session has needed it before.
    pub fn form(&self, dialect: Dialect, encode: impl FnOnce(&Bytes) -> Bytes) -> Bytes {
        let mut forms = self.forms.lock();
        if let Some((_, form)) = forms.encoded.iter().find(|(known, _)| *known == dialect) {
            return form.clone();
        }
        let form = encode(&self.frame);
        if let Some(charge) = &mut forms.charge {
            charge.add(form.len());
        }
        forms.encoded.push((dialect, form.clone()));
        form
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialect_is_encoded_once() {
        let push = Push::new(Bytes::from_static(b"frame"), &Budget::new(100));
        let upper = |frame: &Bytes| frame.to_ascii_uppercase().into();
        assert_eq!(push.form(Dialect("upper"), upper), "FRAME");
        let shared = push.form(Dialect("upper"), |_| unreachable!("encoded before"));
        assert_eq!(shared, "FRAME");
        assert_eq!(push.form(Dialect("same"), Bytes::clone), push.frame());
    }

    #[test]
    fn a_push_counts_once_with_all_its_forms_while_it_is_there() {
        let memory = Budget::new(100);
        let push = Push::new(Bytes::from_static(b"frame"), &memory);
        push.form(Dialect("twice"), |frame| {
            [&frame[..], frame].concat().into()
        });
        assert_eq!(memory.used(), 15);
        drop(push);
        assert_eq!(memory.used(), 0);
    }
}
