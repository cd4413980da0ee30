//! Who did what: one line in the log, and a count, for each change by an operator and for each reading of a secret.
//!
//! The lines have the target `audit` and always the same fields, so that a filter finds them and a program reads them. They say
//! nothing that is secret itself.

use parlance_proto::common::v1::Error;
use parlance_proto::tls::{CertificateFacts, common_name};
use tonic::Request;

use crate::metrics;

/// Whose certificate a request came with, by its serial number, and from where.
#[derive(Debug, Clone)]
pub struct Who {
    name: String,
    certificate: String,
    address: String,
}

impl Who {
    /// The sender of a request.
    pub fn of<T>(request: &Request<T>) -> Self {
        let certificates = request.peer_certs();
        let leaf = certificates.as_ref().and_then(|chain| chain.first());
        let facts = leaf.and_then(|leaf| CertificateFacts::of(leaf).ok());
        let address = request.remote_addr();
        Self {
            name: leaf.and_then(common_name).unwrap_or_default(),
            certificate: facts
                .map(|facts| facts.serial.to_string())
                .unwrap_or_default(),
            address: address.map(|a| a.to_string()).unwrap_or_default(),
        }
    }

    /// Notes an action and what came of it. `action` is one of a few names, `subject` what it was about.
    pub fn did<T>(&self, action: &'static str, subject: &str, result: &Result<T, Error>) {
        let refused = result.as_ref().err();
        let outcome = refused.map_or_else(|| "ok".to_owned(), |error| error.code().name());
        metrics::audited(action, &outcome);
        tracing::info!(
            target: "audit",
            who = self.name,
            certificate = self.certificate,
            address = self.address,
            action,
            subject,
            outcome,
            reason = refused.map(|error| error.message.as_str()).unwrap_or_default(),
            "audit"
        );
    }
}
