//! What a certificate says of itself, besides its names: its serial number and when it ends.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;

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

/// The common name in a certificate's subject: what it is called, for people. Nothing is allowed by it.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    let text = name.as_str().ok()?;
    Some(text.chars().filter(|c| !c.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
