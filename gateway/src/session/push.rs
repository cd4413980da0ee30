//! What many sessions get: a frame as its node encoded it, and its form in each other dialect, encoded when the first
//! session needs it and shared from then on.

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_proto::client::v1::{ServerFrame, server_frame};
use prost::Message as _;
use tokio::time::Instant;

/// How an endpoint writes pushes, if not as they come. Sessions of one dialect share the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect(pub &'static str);

/// One push.
#[derive(Debug)]
pub struct Push {
    frame: Bytes,
    arrived: Instant,
    forms: Mutex<Vec<(Dialect, Bytes)>>,
}

impl Push {
    /// A push of an encoded `ServerFrame` that has arrived just now.
    pub fn new(frame: Bytes) -> Self {
        Self {
            frame,
            arrived: Instant::now(),
            forms: Mutex::default(),
        }
    }

    /// A push that this gateway makes itself.
    pub fn notice(body: server_frame::Body) -> Self {
        let frame = ServerFrame {
            request_id: 0,
            body: Some(body),
        };
        Self::new(frame.encode_to_vec().into())
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
        if let Some((_, form)) = forms.iter().find(|(known, _)| *known == dialect) {
            return form.clone();
        }
        let form = encode(&self.frame);
        forms.push((dialect, form.clone()));
        form
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialect_is_encoded_once() {
        let push = Push::new(Bytes::from_static(b"frame"));
        let upper = |frame: &Bytes| frame.to_ascii_uppercase().into();
        assert_eq!(push.form(Dialect("upper"), upper), "FRAME");
        let shared = push.form(Dialect("upper"), |_| unreachable!("encoded before"));
        assert_eq!(shared, "FRAME");
        assert_eq!(push.form(Dialect("same"), Bytes::clone), push.frame());
    }
}
