//! Certificates that nobody believes any more.

use parlance_proto::store::v1::{ClusterMap, DeniedCertificate, meta_refusal::Reason};

use super::{Change, refusal};

/// The list goes whole to every gateway, and is asked in each handshake. Certificates that have ended need not be on it.
pub(in crate::meta) const DENIED_MAX: usize = 1024;

/// The same again changes the reason only.
pub(super) fn deny(map: &mut ClusterMap, new: DeniedCertificate, time_ms: i64) -> Change {
    let denied = &mut map.denied_certificates;
    if let Some(known) = denied.iter_mut().find(|known| known.serial == new.serial) {
        let changed = known.reason != new.reason;
        known.reason = new.reason;
        return Ok(changed);
    }
    if denied.len() >= DENIED_MAX {
        let message = format!(
            "{DENIED_MAX} certificates are denied already: allow those that have ended by now, nobody believes them anyway"
        );
        return Err(refusal(Reason::Forbidden, message));
    }
    denied.push(DeniedCertificate {
        denied_ms: time_ms,
        ..new
    });
    Ok(true)
}

/// Whether it was denied.
pub(super) fn allow(map: &mut ClusterMap, serial: &[u8]) -> bool {
    let before = map.denied_certificates.len();
    map.denied_certificates
        .retain(|denied| denied.serial != serial);
    map.denied_certificates.len() < before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(number: u32, reason: &str) -> DeniedCertificate {
        DeniedCertificate {
            serial: number.to_be_bytes().to_vec().into(),
            reason: reason.to_owned(),
            ..DeniedCertificate::default()
        }
    }

    #[test]
    fn a_certificate_is_denied_once_and_allowed_again() {
        let mut map = ClusterMap::default();
        assert_eq!(deny(&mut map, certificate(1, "stolen"), 5), Ok(true));
        assert_eq!(deny(&mut map, certificate(1, "stolen"), 6), Ok(false));
        assert_eq!(deny(&mut map, certificate(1, "lost"), 7), Ok(true));
        assert_eq!(map.denied_certificates.len(), 1);
        assert_eq!(map.denied_certificates[0].denied_ms, 5);
        assert!(!allow(&mut map, &2u32.to_be_bytes()));
        assert!(allow(&mut map, &1u32.to_be_bytes()));
        assert!(map.denied_certificates.is_empty());
    }

    #[test]
    fn the_list_is_bounded() {
        let mut map = ClusterMap::default();
        for number in 0..DENIED_MAX as u32 {
            assert_eq!(deny(&mut map, certificate(number, ""), 0), Ok(true));
        }
        assert!(deny(&mut map, certificate(u32::MAX, ""), 0).is_err());
        assert_eq!(deny(&mut map, certificate(0, "again"), 0), Ok(true));
    }
}
