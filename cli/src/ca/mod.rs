//! The cluster's certificate authority: ECDSA P-256, PEM files, keys that only their owner may read. `rotation.rs` brings a
//! new one in and lets the old one go, `status.rs` tells what is there, `folder.rs` where.
//!
//! Who a certificate speaks for is in its DNS names (`parlance_proto::tls`); no address is in it.

mod folder;
mod rotation;
mod status;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use parlance_proto::tls::{Role, TlsFiles};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use crate::exit::not_possible;
use crate::files;

use folder::{KEY_ENDING, file_name, files_in, is_operator_name};

pub use folder::{ca_cert, ca_key, operator_files};
pub use rotation::{retire, rotate};
pub use status::{CertificateFile, read_certificate, status};

/// A cluster outlives its machines; a new authority means new certificates for all.
const CA_VALID: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks of machines differ a little.
const BACKDATED: Duration = Duration::from_secs(3600);

/// A folder with an authority in it.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new one; never over another, which would lock its cluster out.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        for path in [ca_cert(dir), ca_key(dir)] {
            if path.exists() {
                let shown = path.display();
                return Err(not_possible(format!(
                    "{shown} exists: an authority is never overwritten, use another folder"
                )));
            }
        }
        let (cert_pem, key_pem) = new_authority()?;
        files::write_private(&ca_key(dir), key_pem.as_bytes())?;
        files::write_public(&ca_cert(dir), cert_pem.as_bytes())?;
        Self::open(dir)
    }

    /// Opens the one in a folder.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let read = |path: PathBuf| {
            std::fs::read_to_string(&path)
                .with_context(|| format!("read {} (made by `parlance ca create`)", path.display()))
        };
        let key = KeyPair::from_pem(&read(ca_key(dir))?)
            .with_context(|| format!("parse {}", ca_key(dir).display()))?;
        // Of two authorities the first is the one that issues.
        let ca_pem = read(ca_cert(dir))?;
        rotation::check_pair(dir, &ca_pem, &key)?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key)
            .with_context(|| format!("parse {}", ca_cert(dir).display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            issuer,
        })
    }

    /// Issues a certificate with a new key, in place of an older one of the same role.
    pub fn issue(&self, role: &Role, valid: Duration) -> anyhow::Result<TlsFiles> {
        let name = file_name(role);
        self.issue_as(role, &name, &name, valid)
    }

    /// Issues the certificate of an operator by name, which the nodes note with whatever is done with it.
    pub fn issue_operator(&self, name: &str, valid: Duration) -> anyhow::Result<TlsFiles> {
        if !is_operator_name(name) {
            return Err(not_possible(format!(
                "{name:?} is not a name for an operator: 1 to 64 letters, digits and . _ @ -, a letter or digit first"
            )));
        }
        let files = format!("{}-{name}", file_name(&Role::Admin));
        self.issue_as(&Role::Admin, name, &files, valid)
    }

    fn issue_as(
        &self,
        role: &Role,
        common_name: &str,
        file_name: &str,
        valid: Duration,
    ) -> anyhow::Result<TlsFiles> {
        if file_name.ends_with(KEY_ENDING) {
            return Err(not_possible(format!(
                "{file_name}.pem would be the file of another's key: choose a name that does not end in {KEY_ENDING}"
            )));
        }
        let mut params = base_params(common_name, valid);
        params.subject_alt_names = role
            .dns_names()
            .into_iter()
            .map(|name| Ok(rcgen::SanType::DnsName(name.try_into()?)))
            .collect::<Result<_, rcgen::Error>>()
            .context("name the certificate")?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("generate a key")?;
        let cert = params
            .signed_by(&key, &self.issuer)
            .context("sign the certificate")?;
        let files = files_in(&self.dir, file_name);
        files::write_private(&files.key, key.serialize_pem().as_bytes())?;
        files::write_public(&files.cert, cert.pem().as_bytes())?;
        Ok(files)
    }

    /// Where the files of a role are.
    pub fn files(&self, role: &Role) -> TlsFiles {
        files_in(&self.dir, &file_name(role))
    }
}

fn new_authority() -> anyhow::Result<(String, String)> {
    let mut params = base_params("Parlance cluster CA", CA_VALID);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().context("generate the authority's key")?;
    let cert = params
        .self_signed(&key)
        .context("sign the authority's certificate")?;
    Ok((cert.pem(), key.serialize_pem()))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a certificate is valid from now on by the machine's clock"
)]
fn base_params(common_name: &str, valid: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).into();
    // Beyond what the clock can express means the default, which is far away.
    if let Some(end) = now.checked_add(valid) {
        params.not_after = end.into();
    }
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Parlance");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_proto::tls::{DenyList, TlsIdentity};
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn certificates_say_who_they_speak_for_and_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        Authority::create(dir.path()).unwrap();
        let authority = Authority::open(dir.path()).unwrap();
        for role in [Role::Node(7), Role::Gateway("east-1".into()), Role::Admin] {
            let files = authority.issue(&role, DAY).unwrap();
            let identity = TlsIdentity::load(&files).unwrap();
            assert_eq!(identity.role, role);
            let nobody = DenyList::default();
            identity.server_config(b"h2", &nobody).unwrap();
            identity.client_config(b"h2", &nobody).unwrap();
            assert_eq!(
                std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let ca_key_mode = std::fs::metadata(ca_key(dir.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(ca_key_mode & 0o777, 0o600);
        let again = Authority::create(dir.path()).err().unwrap();
        assert_eq!(crate::exit::code_of(&again), 2);
    }

    async fn shake_hands(node: &TlsIdentity, client: &TlsIdentity, denied: &DenyList) -> [bool; 2] {
        use std::sync::Arc;
        use tokio_rustls::{TlsAcceptor, TlsConnector};
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = node.server_config(b"h2", denied).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let accepted = tokio::spawn(async move { acceptor.accept(far).await.is_ok() });
        let dial = client.client_config(b"h2", denied).unwrap();
        let connector = TlsConnector::from(Arc::new(dial));
        let name = parlance_proto::tls::ANY_NODE.try_into().unwrap();
        let connected = connector.connect(name, near).await.ok();
        let trusted = [connected.is_some(), accepted.await.unwrap()];
        drop(connected);
        trusted
    }

    /// The two ends of a connection trust each other by the authority alone.
    #[tokio::test]
    async fn an_admin_and_a_node_shake_hands_but_not_across_authorities() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ours = Authority::create(dir.path()).unwrap();
        let theirs = Authority::create(other.path()).unwrap();
        let node = TlsIdentity::load(&ours.issue(&Role::Node(1), DAY).unwrap()).unwrap();
        let admin = TlsIdentity::load(&ours.issue(&Role::Admin, DAY).unwrap()).unwrap();
        let stranger = TlsIdentity::load(&theirs.issue(&Role::Admin, DAY).unwrap()).unwrap();
        let nobody = DenyList::default();
        assert_eq!(shake_hands(&node, &admin, &nobody).await, [true, true]);
        assert_eq!(shake_hands(&node, &stranger, &nobody).await, [false, false]);
    }

    #[tokio::test]
    async fn a_denied_certificate_is_refused_by_either_side() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        let node = TlsIdentity::load(&authority.issue(&Role::Node(1), DAY).unwrap()).unwrap();
        let admin = TlsIdentity::load(&authority.issue(&Role::Admin, DAY).unwrap()).unwrap();
        let denied = DenyList::default();
        denied.set(BTreeSet::from([admin.certificate.serial.clone()]));
        // With TLS 1.3 a client learns later that it was not taken.
        let [_, accepted] = shake_hands(&node, &admin, &denied).await;
        assert!(!accepted);
        denied.set(BTreeSet::from([node.certificate.serial.clone()]));
        assert_eq!(shake_hands(&node, &admin, &denied).await, [false, false]);
        denied.set(BTreeSet::new());
        assert_eq!(shake_hands(&node, &admin, &denied).await, [true, true]);
    }
}
