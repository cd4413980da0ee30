//! What a certificate says of itself, besides its names: its serial number and when it ends, and how it stands by that.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use crate::visible::without_hidden;

const DAY_S: i64 = 24 * 3600;
/// As long before its end as everybody begins to warn.
const SOON_S: i64 = 30 * DAY_S;
/// Bytes of a serial number (RFC 5280, 4.1.2.2).
const SERIAL_BYTES_MAX: usize = 20;

/// The serial number of a certificate, which its issuer gave it. Shown as hex without leading zeros.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Vec<u8>);

/// A text or bytes that are no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a serial number: 1 to {SERIAL_BYTES_MAX} bytes in hex, as `parlance ca status` shows it"
)]
pub struct BadSerial;

impl Serial {
    /// From big-endian bytes.
    ///
    /// # Errors
    /// Nothing but zeros, or too many bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadSerial> {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = bytes.get(zeros..).unwrap_or_default();
        if bytes.is_empty() || bytes.len() > SERIAL_BYTES_MAX {
            return Err(BadSerial);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Big-endian, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Serial {
    type Err = BadSerial;

    /// Takes what other tools show, too: capitals, and colons between bytes.
    fn from_str(text: &str) -> Result<Self, BadSerial> {
        let mut digits: String = text.chars().filter(|c| *c != ':').collect();
        if digits.len() % 2 == 1 {
            digits.insert(0, '0');
        }
        let bytes = hex::decode(digits).map_err(|_| BadSerial)?;
        Self::from_bytes(&bytes)
    }
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its serial number.
    pub serial: Serial,
    /// Unix time in seconds after which it is not good any more.
    pub expires_s: i64,
}

impl CertificateFacts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// Bytes that are no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|e| TlsError::Unreadable(e.to_string()))?;
        let serial = Serial::from_bytes(parsed.raw_serial());
        Ok(Self {
            serial: serial.map_err(|e| TlsError::Unreadable(e.to_string()))?,
            expires_s: parsed.validity().not_after.timestamp(),
        })
    }
}

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It ends in more than thirty days.
    Good,
    /// It ends in so many days, and should be renewed.
    EndsSoon(i64),
    /// It is good no more.
    Ended,
}

impl Standing {
    /// How one that ends at a time stands at another, both as Unix time in seconds.
    pub fn at(now_s: i64, expires_s: i64) -> Self {
        match expires_s.saturating_sub(now_s) {
            ..=0 => Self::Ended,
            left if left <= SOON_S => Self::EndsSoon(left / DAY_S),
            _ => Self::Good,
        }
    }

    /// A name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::EndsSoon(_) => "ends_soon",
            Self::Ended => "ended",
        }
    }
}

/// The common name in a certificate's subject: what it is called, for people. Nothing is allowed by it.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    let text = name.as_str().ok()?;
    Some(without_hidden(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_begins_thirty_days_before() {
        let now = 1_000 * DAY_S;
        let stands = |left: i64| Standing::at(now, now + left);
        assert_eq!(stands(30 * DAY_S + 1), Standing::Good);
        assert_eq!(stands(30 * DAY_S), Standing::EndsSoon(30));
        assert_eq!(stands(DAY_S - 1), Standing::EndsSoon(0));
        assert_eq!(stands(0), Standing::Ended);
        assert_eq!(stands(-DAY_S), Standing::Ended);
        assert_eq!(Standing::at(now, i64::MIN), Standing::Ended);
    }

    #[test]
    fn a_serial_number_is_the_same_however_it_is_written() {
        let serial: Serial = "0a:B1:00".parse().unwrap();
        assert_eq!(serial.to_string(), "0ab100");
        for same in ["ab100", "0AB100", "00:0a:b1:00"] {
            assert_eq!(same.parse::<Serial>().as_ref(), Ok(&serial), "{same}");
        }
        let too_long = "01".repeat(SERIAL_BYTES_MAX + 1);
        for bad in ["", "0", "00:00", "xyz", "1 2", too_long.as_str()] {
            assert_eq!(bad.parse::<Serial>(), Err(BadSerial), "{bad}");
        }
    }
}
