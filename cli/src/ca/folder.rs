//! What is where in a folder of certificates, by whom they speak for.

use std::path::{Path, PathBuf};

use parlance_proto::tls::{Role, TlsFiles};

use crate::exit::not_possible;

/// Bytes of a common name (RFC 5280, appendix A.1).
const OPERATOR_NAME_BYTES_MAX: usize = 64;
/// Behind the name of a certificate's file, it is that of its key.
pub(super) const KEY_ENDING: &str = "-key";

/// The authority's certificate in its folder.
pub fn ca_cert(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

/// The authority's key in its folder.
pub fn ca_key(dir: &Path) -> PathBuf {
    dir.join("ca-key.pem")
}

/// What the files of a role begin with, and what its certificate is called.
pub(super) fn file_name(role: &Role) -> String {
    match role {
        Role::Node(id) => format!("node-{id}"),
        Role::Gateway(id) => format!("gateway-{id}"),
        Role::Admin => "admin".to_owned(),
    }
}

/// A certificate's file and that of its key.
pub(super) fn files_in(dir: &Path, file_name: &str) -> TlsFiles {
    TlsFiles {
        ca: ca_cert(dir),
        cert: dir.join(format!("{file_name}.pem")),
        key: dir.join(format!("{file_name}{KEY_ENDING}.pem")),
    }
}

/// The files that an operator has in a folder: of the one certificate there, whatever its name.
pub fn operator_files(dir: &Path) -> anyhow::Result<TlsFiles> {
    let unnamed = file_name(&Role::Admin);
    let named = format!("{unnamed}-");
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Ok(files_in(dir, &unnamed));
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names
        .filter_map(|name| Some(name.strip_suffix(".pem")?.to_owned()))
        .filter(|name| *name == unnamed || name.starts_with(&named))
        .filter(|name| !name.ends_with(KEY_ENDING))
        .collect();
    names.sort_unstable();
    match names.as_slice() {
        [] => Ok(files_in(dir, &unnamed)),
        [first, ..] if *first == unnamed => Ok(files_in(dir, first)),
        [only] => Ok(files_in(dir, only)),
        several => Err(not_possible(format!(
            "{} has the certificates of several operators ({}.pem): give each a folder of their own, with ca.pem",
            dir.display(),
            several.join(".pem, ")
        ))),
    }
}

/// Whether a text can name an operator: in a certificate's subject, in a file's name and in a log.
pub(super) fn is_operator_name(name: &str) -> bool {
    (1..=OPERATOR_NAME_BYTES_MAX).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::super::Authority;
    use super::*;
    use parlance_proto::tls::{TlsIdentity, common_name};
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn an_operator_has_a_name_and_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        let files = |dir: &Path| operator_files(dir).unwrap().cert;
        assert_eq!(
            files(dir.path()),
            dir.path().join("admin.pem"),
            "by default"
        );
        let alice = authority.issue_operator("alice@example.com", DAY).unwrap();
        assert_eq!(files(dir.path()), alice.cert);
        let identity = TlsIdentity::load(&alice).unwrap();
        assert_eq!(identity.role, Role::Admin);
        let certificate = CertificateDer::from_pem_file(&alice.cert).unwrap();
        let name = common_name(&certificate);
        assert_eq!(name.as_deref(), Some("alice@example.com"));

        authority.issue_operator("bob", DAY).unwrap();
        let error = operator_files(dir.path()).unwrap_err();
        assert!(error.to_string().contains("admin-bob.pem"), "{error}");
        authority.issue(&Role::Admin, DAY).unwrap();
        assert_eq!(files(dir.path()), dir.path().join("admin.pem"));

        let long = "a".repeat(OPERATOR_NAME_BYTES_MAX + 1);
        for bad in ["", ".", "../bob", "a b", "-a", "alice-key", "key", &long] {
            let error = authority.issue_operator(bad, DAY).unwrap_err();
            assert_eq!(crate::exit::code_of(&error), 2, "{bad}");
        }
        let east_key = Role::Gateway("east-key".into());
        assert!(authority.issue(&east_key, DAY).is_err(), "the key of east");
    }
}
