//! From one authority to the next without an interruption: for a time both are trusted, and the new one issues.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{Authority, ca_cert, ca_key, new_authority, status};
use crate::exit::not_possible;
use crate::files;

/// A new authority beside the one that is there: `ca.pem` has both, the new one first, and it issues from now on.
pub fn rotate(dir: &Path) -> anyhow::Result<()> {
    Authority::open(dir)?;
    let before = read(&ca_cert(dir))?;
    if certificates(&before)?.len() > 1 {
        return Err(not_possible(
            "ca.pem has two authorities already: end that rotation first, with parlance ca retire",
        ));
    }
    let (cert_pem, key_pem) = new_authority()?;
    let both = format!("{}\n{}\n", cert_pem.trim_end(), before.trim_end());
    // Cut off between the three, `check_pair` says what to do.
    files::write_private(&old_key(dir), read(&ca_key(dir))?.as_bytes())?;
    files::write_public(&ca_cert(dir), both.as_bytes())?;
    files::write_private(&ca_key(dir), key_pem.as_bytes())
}

/// Ends a rotation: from now on `ca.pem` has the new authority only. The old one's key goes.
pub fn retire(dir: &Path) -> anyhow::Result<()> {
    Authority::open(dir)?;
    let pem = read(&ca_cert(dir))?;
    let [first, _, ..] = blocks(&pem)[..] else {
        return Err(not_possible(
            "ca.pem has one authority: nothing is to be retired",
        ));
    };
    if let Some(left) = status::of_old_authority(dir)? {
        return Err(not_possible(format!(
            "{} is of the old authority, and nobody would believe it any more: issue it again, or take it out of the folder",
            left.display()
        )));
    }
    files::write_public(&ca_cert(dir), format!("{first}\n").as_bytes())?;
    match std::fs::remove_file(old_key(dir)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", old_key(dir).display()))
        }
        _ => Ok(()),
    }
}

/// The key that issues must be the first certificate's.
pub(super) fn check_pair(dir: &Path, ca_pem: &str, key: &KeyPair) -> anyhow::Result<()> {
    use rcgen::PublicKeyData as _;
    let first = certificates(ca_pem)?.into_iter().next();
    let first = first.with_context(|| format!("{} has no certificate", ca_cert(dir).display()))?;
    let spki = key.subject_public_key_info();
    if first.windows(spki.len()).any(|part| part == spki) {
        return Ok(());
    }
    Err(not_possible(format!(
        "the first certificate in {} is not that of {}: if a rotation was cut off, put {} in the place of the key, remove \
         the first certificate, and rotate again",
        ca_cert(dir).display(),
        ca_key(dir).display(),
        old_key(dir).display()
    )))
}

fn old_key(dir: &Path) -> PathBuf {
    dir.join("ca-key-old.pem")
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .context("parse ca.pem")
}

/// The texts of the certificates.
fn blocks(pem: &str) -> Vec<&str> {
    const END: &str = "-----END CERTIFICATE-----";
    let ends = pem.match_indices(END).map(|(at, end)| at + end.len());
    let mut begin = 0;
    ends.filter_map(|end| {
        let block = pem.get(begin..end)?;
        begin = end;
        block.find("-----BEGIN").and_then(|at| block.get(at..))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_proto::tls::{Role, TlsIdentity};
    use rustls_pki_types::UnixTime;
    use std::time::Duration;

    #[test]
    fn both_authorities_are_trusted_until_the_old_one_is_retired() {
        let dir = tempfile::tempdir().unwrap();
        let day = Duration::from_secs(24 * 3600);
        let issue = |role: &Role| {
            Authority::open(dir.path())
                .unwrap()
                .issue(role, day)
                .unwrap()
        };
        let good = |files| {
            TlsIdentity::load(files)
                .unwrap()
                .check(UnixTime::now())
                .is_ok()
        };
        Authority::create(dir.path()).unwrap();
        let old = issue(&Role::Node(1));
        rotate(dir.path()).unwrap();
        let new = issue(&Role::Node(2));
        assert!(good(&old) && good(&new));
        assert_eq!(TlsIdentity::load(&new).unwrap().authorities.len(), 2);
        let twice = rotate(dir.path()).unwrap_err();
        assert_eq!(crate::exit::code_of(&twice), 2);

        let early = retire(dir.path()).unwrap_err();
        assert!(early.to_string().contains("node-1.pem"), "{early}");
        let elsewhere = tempfile::tempdir().unwrap();
        let kept = parlance_proto::tls::TlsFiles {
            cert: elsewhere.path().join("node-1.pem"),
            ..old.clone()
        };
        std::fs::rename(&old.cert, &kept.cert).unwrap();
        retire(dir.path()).unwrap();
        assert!(!good(&kept) && good(&new));
        assert!(!old_key(dir.path()).exists());
        assert_eq!(crate::exit::code_of(&retire(dir.path()).unwrap_err()), 2);
        rotate(dir.path()).unwrap();
        assert!(good(&issue(&Role::Admin)));
    }

    #[test]
    fn a_rotation_that_was_cut_off_issues_nothing() {
        let dir = tempfile::tempdir().unwrap();
        Authority::create(dir.path()).unwrap();
        let key = read(&ca_key(dir.path())).unwrap();
        rotate(dir.path()).unwrap();
        files::write_private(&ca_key(dir.path()), key.as_bytes()).unwrap();
        let refused = Authority::open(dir.path()).err().unwrap();
        assert!(refused.to_string().contains("ca-key-old.pem"), "{refused}");
    }
}
