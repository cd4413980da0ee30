//! The certificates that nodes and gateways use, as `parlance cluster status` shows them. Which of them end soon is for
//! the node to say.

use parlance_proto::admin::v1::CertificateStatus;
use serde::Serialize;

use super::status::Status;
use crate::output::{Output, time_text};

/// A certificate in use.
#[derive(Serialize)]
pub(super) struct Certificate {
    serial: String,
    expires_s: i64,
}

impl From<CertificateStatus> for Certificate {
    fn from(status: CertificateStatus) -> Self {
        Self {
            serial: status.serial_hex,
            expires_s: status.expires_s,
        }
    }
}

/// The certificates in use and whose they are.
pub(super) fn used(status: &Status) -> Vec<(String, &Certificate)> {
    let nodes = status.nodes.iter().map(|node| {
        let who = format!("node {}", node.node_id);
        (who, node.certificate.as_ref())
    });
    let gateways = status.gateways.iter().map(|gateway| {
        let who = format!("gateway {}", gateway.gateway_id);
        (who, gateway.certificate.as_ref())
    });
    nodes
        .chain(gateways)
        .filter_map(|(who, certificate)| Some((who, certificate?)))
        .collect()
}

/// One row each.
pub(super) fn table(output: &Output, used: &[(String, &Certificate)]) -> String {
    let mut table = output.table(&["CERTIFICATE OF", "ENDS", "SERIAL"]);
    for (who, certificate) in used {
        table.add_row([
            who.as_str(),
            &time_text(certificate.expires_s.saturating_mul(1000)),
            &certificate.serial,
        ]);
    }
    table.to_string()
}
