//! A certificate authority for one test.

use std::path::{Path, PathBuf};

use parlance_proto::tls::{Role, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(folder: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(folder.join("ca.pem"), cert.pem()).unwrap();
        Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn issue(&self, role: Role) -> TlsFiles {
        let names = role.dns_names();
        let file = |kind: &str| self.folder.join(format!("{}.{kind}.pem", names[0]));
        let (cert_file, key_file) = (file("cert"), file("key"));
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        TlsFiles {
            ca: self.folder.join("ca.pem"),
            cert: cert_file,
            key: key_file,
        }
    }
}
