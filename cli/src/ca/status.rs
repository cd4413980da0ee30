//! The certificates in an authority's folder: whose they are, when they end, and by which authority.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use parlance_proto::tls::{CertificateFacts, Role, Serial, Standing, common_name, role_of};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Serialize, Serializer};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca_cert;

const AUTHORITY: &str = "authority";
/// The one that issues, and the one before it.
const CURRENT: &str = "current";
const OLD: &str = "old";

/// One certificate.
#[derive(Debug, Serialize)]
pub struct CertificateFile {
    /// Where it is.
    pub file: PathBuf,
    /// Whom it speaks for: `authority`, a role, or `unknown`.
    pub who: String,
    /// As `parlance certificate deny` takes it.
    pub serial: String,
    /// Unix time in seconds.
    pub expires_s: i64,
    /// Of the authority that issues `current`, during a rotation of the one before it `old`; of others that of the authority that
    /// issued it, or `other`.
    pub authority: &'static str,
    /// How it stands.
    #[serde(serialize_with = "name_of_standing")]
    pub standing: Standing,
}

fn name_of_standing<S: Serializer>(standing: &Standing, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(standing.name())
}

/// All certificates of a folder, those of the authority first.
pub fn status(dir: &Path) -> anyhow::Result<Vec<CertificateFile>> {
    let ca_path = ca_cert(dir);
    let authorities = certificates(&ca_path)?;
    anyhow::ensure!(
        !authorities.is_empty(),
        "{} has no certificate",
        ca_path.display()
    );
    let keys: Vec<_> = authorities.iter().map(|ca| key_ids(ca).own).collect();
    let now = now_s();
    let mut found = Vec::new();
    for (place, ca) in authorities.iter().enumerate() {
        let authority = name_of(place);
        found.push(describe(
            &ca_path,
            ca,
            AUTHORITY.to_owned(),
            authority,
            now,
        )?);
    }
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .with_context(|| format!("list {}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "pem") && *path != ca_path)
        .collect();
    paths.sort_unstable();
    for path in paths {
        // A key's file has none.
        let Some(leaf) = certificates(&path)?.into_iter().next() else {
            continue;
        };
        let issuer = key_ids(&leaf).issuer;
        let place = keys.iter().position(|own| own.is_some() && *own == issuer);
        found.push(describe(
            &path,
            &leaf,
            holder(&leaf),
            place.map_or("other", name_of),
            now,
        )?);
    }
    Ok(found)
}

/// A certificate in the folder that the old authority issued and the new one has not issued again.
pub(super) fn of_old_authority(dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    let issued = status(dir)?.into_iter().filter(|c| c.who != AUTHORITY);
    let mut old = issued.filter(|c| c.authority == OLD);
    Ok(old.next().map(|certificate| certificate.file))
}

/// Whom a certificate speaks for; an operator by name.
fn holder(leaf: &CertificateDer<'_>) -> String {
    match role_of(leaf) {
        Ok(Role::Admin) => format!("operator {}", common_name(leaf).unwrap_or_default()),
        Ok(role) => role.to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

/// The serial number of the first certificate in a file.
pub fn read_certificate(path: &Path) -> anyhow::Result<Serial> {
    let leaf = certificates(path)?.into_iter().next();
    let leaf = leaf.with_context(|| format!("{} has no certificate", path.display()))?;
    Ok(CertificateFacts::of(&leaf)?.serial)
}

fn name_of(place: usize) -> &'static str {
    if place == 0 { CURRENT } else { OLD }
}

fn describe(
    file: &Path,
    certificate: &CertificateDer<'_>,
    who: String,
    authority: &'static str,
    now: i64,
) -> anyhow::Result<CertificateFile> {
    let facts = CertificateFacts::of(certificate)
        .with_context(|| format!("read the certificate in {}", file.display()))?;
    Ok(CertificateFile {
        file: file.to_owned(),
        who,
        serial: facts.serial.to_string(),
        expires_s: facts.expires_s,
        authority,
        standing: Standing::at(now, facts.expires_s),
    })
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("parse {}", path.display()))
}

/// The key of a certificate and that of who issued it, by their identifiers.
#[derive(Default)]
struct KeyIds {
    own: Option<Vec<u8>>,
    issuer: Option<Vec<u8>>,
}

fn key_ids(certificate: &CertificateDer<'_>) -> KeyIds {
    let mut ids = KeyIds::default();
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return ids;
    };
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => ids.own = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(issuer) => {
                ids.issuer = issuer.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    ids
}

#[allow(
    clippy::disallowed_methods,
    reason = "a certificate is good or not by the machine's clock"
)]
fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::{Authority, rotate};
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_certificate_says_whose_it_is_when_it_ends_and_by_which_authority() {
        let dir = tempfile::tempdir().unwrap();
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        let authority = Authority::create(dir.path()).unwrap();
        authority.issue(&Role::Node(1), days(20)).unwrap();
        rotate(dir.path()).unwrap();
        let authority = Authority::open(dir.path()).unwrap();
        let gateway = Role::Gateway("east-1".into());
        let files = authority.issue(&gateway, days(90)).unwrap();
        authority.issue_operator("alice", days(90)).unwrap();

        let found = status(dir.path()).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|c| (c.who.as_str(), c.authority, c.standing.name()))
            .collect();
        assert_eq!(
            shown,
            [
                ("authority", "current", "good"),
                ("authority", "old", "good"),
                ("operator alice", "current", "good"),
                ("gateway east-1", "current", "good"),
                ("node 1", "old", "ends_soon"),
            ]
        );
        let serial = read_certificate(&files.cert).unwrap();
        assert_eq!(found[3].serial, serial.to_string());
    }
}
