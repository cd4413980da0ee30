//! Who calls the admin API, by the certificate; and a line in the log for everything that they change.

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::tls::Role;
use tonic::{Request, Status};

use crate::link::role_of_peer;

/// An operator, by the certificate's fingerprint.
pub(super) struct Caller {
    certificate: String,
    address: String,
}

/// The request of an operator and who it is; anybody else's is refused.
pub(super) fn of_admin<T>(request: Request<T>) -> Result<(Caller, T), Status> {
    let role = role_of_peer(&request)?;
    let caller = Caller::of(&request);
    if role == Role::Admin {
        return Ok((caller, request.into_inner()));
    }
    tracing::warn!(
        ?role,
        address = caller.address,
        "an admin call with another role's certificate was refused"
    );
    let message = "the admin API needs a certificate with the role admin: parlance ca issue admin";
    Err(Error::new(ErrorCode::PermissionDenied, message).into())
}

impl Caller {
    fn of<T>(request: &Request<T>) -> Self {
        let certificates = request.peer_certs();
        let leaf = certificates.as_ref().and_then(|chain| chain.first());
        let fingerprint = leaf.map(|leaf| blake3::hash(leaf).to_hex());
        Self {
            certificate: fingerprint
                .and_then(|hex| hex.get(..16).map(str::to_owned))
                .unwrap_or_default(),
            address: request
                .remote_addr()
                .map(|address| address.to_string())
                .unwrap_or_default(),
        }
    }

    /// Notes a change and what came of it.
    pub(super) fn log<T>(&self, change: &str, subject: &str, result: &Result<T, Error>) {
        let (certificate, address) = (&self.certificate, &self.address);
        match result {
            Ok(_) => {
                tracing::info!(certificate, address, subject, "admin: {change}");
            }
            Err(error) => {
                let reason = &error.message;
                tracing::info!(
                    certificate,
                    address,
                    subject,
                    reason,
                    "admin: {change} failed"
                );
            }
        }
    }
}
