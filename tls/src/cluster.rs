//! A process's certificate in its cluster, and the certificates that the cluster denies.

use std::collections::BTreeSet;
use std::sync::Arc;

use parlance_proto::tls::{
    CertificateFacts, DenyList, PemFiles, Serial, TlsError, TlsFiles, TlsIdentity,
};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use crate::connections::serial_of;
use crate::expiry::Expires;
use crate::follow::Followed;
use crate::metrics;
use crate::seldom::Seldom;

/// A process's certificate in its cluster, as its files have it now.
pub struct ClusterTls {
    files: Arc<Followed<TlsIdentity>>,
    denied: DenyList,
}

impl Expires for TlsIdentity {
    fn expires(&self) -> Vec<(String, i64)> {
        // Of two authorities the one that ends last: the cluster is on its way to it.
        let authority = self.authorities.iter().map(|ca| ca.expires_s).max();
        let own = ("cluster".to_owned(), self.certificate.expires_s);
        std::iter::once(own)
            .chain(authority.map(|at| ("ca".to_owned(), at)))
            .collect()
    }
}

impl ClusterTls {
    /// Reads the files and follows them until the answer is dropped. Whom the certificate speaks for never changes.
    ///
    /// # Errors
    /// Files that cannot be read, are not PEM of the right kind, or do not fit together.
    pub fn open(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let paths = vec![files.ca.clone(), files.cert.clone(), files.key.clone()];
        let files = files.clone();
        let parse = move |contents: Vec<Vec<u8>>, before: Option<&TlsIdentity>| {
            parse(&files, contents, before)
        };
        let told = Seldom::new("certificates that are denied");
        Ok(Arc::new(Self {
            files: Followed::open("cluster", paths, parse)?,
            denied: DenyList::new(move |serial| {
                metrics::denied(1);
                if told.tells(&serial.to_string()) {
                    tracing::warn!(certificate = %serial, "a handshake is refused: the certificate is denied");
                }
            }),
        }))
    }

    /// The certificate, key and CA that are in use now.
    pub fn identity(&self) -> Arc<TlsIdentity> {
        self.files.now()
    }

    /// What the certificate in use says of itself.
    pub fn certificate(&self) -> CertificateFacts {
        self.files.now().certificate.clone()
    }

    /// Told of each change of the files.
    pub fn changes(&self) -> watch::Receiver<Arc<TlsIdentity>> {
        self.files.changes()
    }

    /// Looks at the files at once.
    pub fn look(&self) {
        self.files.look();
    }

    /// For the next connection that is accepted.
    ///
    /// # Errors
    /// A CA that cannot be used to check others.
    pub fn server_config(&self, alpn: &[u8]) -> Result<ServerConfig, TlsError> {
        self.identity().server_config(alpn, &self.denied)
    }

    /// For the next connection that is dialled.
    ///
    /// # Errors
    /// A CA that cannot be used to check others.
    pub fn client_config(&self, alpn: &[u8]) -> Result<ClientConfig, TlsError> {
        self.identity().client_config(alpn, &self.denied)
    }

    /// The certificates that are denied.
    pub fn denied(&self) -> &DenyList {
        &self.denied
    }

    /// Whether the other side of a connection, by the chain that it has shown, is denied by now. The caller cuts it.
    pub fn is_denied(&self, chain: Option<&[CertificateDer<'_>]>) -> bool {
        let denied = serial_of(chain).is_ok_and(|serial| self.denied.contains(&serial));
        if denied {
            metrics::denied(1);
        }
        denied
    }

    /// Denies these certificates and no others; whether that is news. Connections that are there are the caller's.
    pub fn deny(&self, serials: BTreeSet<Serial>) -> bool {
        let own = self.certificate().serial;
        let own_is_denied = serials.contains(&own);
        let news = self.denied.set(serials);
        if news && own_is_denied {
            tracing::error!(
                certificate = %own,
                "the cluster denies the certificate of this process: give it another one"
            );
        }
        news
    }
}

/// Of a change this also asks whether others would believe it; at a start the files count as they are.
fn parse(
    files: &TlsFiles,
    contents: Vec<Vec<u8>>,
    before: Option<&TlsIdentity>,
) -> Result<TlsIdentity, TlsError> {
    let mut contents = contents.into_iter();
    let mut next = || contents.next().unwrap_or_default();
    let (ca, cert, key) = (next(), next(), next());
    let identity = TlsIdentity::from_pem(files, PemFiles { ca, cert, key })?;
    if let Some(before) = before {
        if before.role != identity.role {
            return Err(TlsError::AnotherRole {
                before: before.role.clone(),
                now: identity.role,
            });
        }
        identity.check(UnixTime::now())?;
    }
    Ok(identity)
}
