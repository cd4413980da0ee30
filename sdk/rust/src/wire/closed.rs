//! How a connection ended.

/// How a connection ended. The ranges of the codes are those of `docs/protocol.md`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closed {
    /// The WebSocket close code; none if the connection was cut without one.
    pub code: Option<u16>,
    /// The gateway's words, or what the socket said.
    pub reason: String,
}

impl Closed {
    /// An end without a close frame.
    pub(crate) fn cut(reason: impl Into<String>) -> Self {
        Self {
            code: None,
            reason: reason.into(),
        }
    }

    /// From the payload of a close frame: two bytes of code, then text.
    pub(crate) fn from_payload(payload: &[u8]) -> Self {
        match payload.split_first_chunk::<2>() {
            Some((code, reason)) => Self {
                code: Some(u16::from_be_bytes(*code)),
                reason: String::from_utf8_lossy(reason).into_owned(),
            },
            None => Self::default(),
        }
    }

    /// No version of the protocol is spoken by both: a newer client or gateway is needed.
    pub fn is_unsupported(&self) -> bool {
        self.code == Some(4004)
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
        for code in [None, Some(1001), Some(1006), Some(4100), Some(4199)] {
            assert!(closed(code).may_reconnect(), "{code:?}");
        }
        for code in [1000, 1009, 4000, 4002, 4004, 4099] {
            assert!(!closed(Some(code)).may_reconnect(), "{code}");
        }
    }

    #[test]
    fn a_close_frame_may_be_empty_or_carry_a_code_and_words() {
        assert_eq!(Closed::from_payload(&[]), Closed::default());
        let told = Closed::from_payload(&[0x0f, 0xa2, b'n', b'o']);
        assert_eq!((told.code, told.reason.as_str()), (Some(4002), "no"));
    }
}
