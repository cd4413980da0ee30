//! Certificates that end: who has one must be given another before.

use parlance_proto::admin::v1::Problem;
use parlance_proto::tls::Standing;

use super::{Seen, problem};

const REMEDY: &str =
    "issue it again with parlance ca issue and put it in its place: no restart is needed";

impl Seen<'_> {
    /// How whose certificate stands, as far as is known.
    fn certificates(&self) -> Vec<(String, Standing)> {
        let nodes = self.members().map(|node| {
            let who = format!("node {}", node.node_id);
            (who, node.certificate.as_ref())
        });
        let gateways = self.status.gateways.iter().map(|gateway| {
            let who = format!("gateway {}", gateway.gateway_id);
            (who, gateway.certificate.as_ref())
        });
        let now_s = self.now_ms / 1000;
        nodes
            .chain(gateways)
            .filter_map(|(who, used)| Some((who, Standing::at(now_s, used?.expires_s))))
            .collect()
    }

    pub(super) fn ended_certificates(&self) -> Vec<Problem> {
        let certificates = self.certificates().into_iter();
        certificates
            .filter(|(_, standing)| *standing == Standing::Ended)
            .map(|(who, _)| {
                let what = format!("the certificate of {who} has ended: new connections fail");
                problem("certificate_ended", what, REMEDY)
            })
            .collect()
    }

    pub(super) fn ending_certificates(&self) -> Vec<Problem> {
        let certificates = self.certificates().into_iter();
        certificates
            .filter_map(|(who, standing)| match standing {
                Standing::EndsSoon(days) => {
                    let what = format!("the certificate of {who} ends in {days} days");
                    Some(problem("certificate_ends", what, REMEDY))
                }
                Standing::Good | Standing::Ended => None,
            })
            .collect()
    }
}
