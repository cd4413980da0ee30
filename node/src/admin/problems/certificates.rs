//! Certificates that end: who has one must be given another before.

use parlance_proto::admin::v1::Problem;

use super::{Seen, problem};

const DAY_S: i64 = 24 * 3600;
/// As long before its end as the processes begin to warn.
const SOON_S: i64 = 30 * DAY_S;
const REMEDY: &str =
    "issue it again with parlance ca issue and put it in its place: no restart is needed";

impl Seen<'_> {
    /// Whose certificate ends in how many seconds, as far as is known.
    fn certificates(&self) -> Vec<(String, i64)> {
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
            .filter_map(|(who, used)| Some((who, used?.expires_s.saturating_sub(now_s))))
            .collect()
    }

    pub(super) fn ended_certificates(&self) -> Vec<Problem> {
        let ended = self
            .certificates()
            .into_iter()
            .filter(|(_, left)| *left <= 0);
        ended
            .map(|(who, _)| {
                let what = format!("the certificate of {who} has ended: new connections fail");
                problem("certificate_ended", what, REMEDY)
            })
            .collect()
    }

    pub(super) fn ending_certificates(&self) -> Vec<Problem> {
        let ending = self.certificates().into_iter();
        ending
            .filter(|(_, left)| (1..=SOON_S).contains(left))
            .map(|(who, left)| {
                let days = left / DAY_S;
                let what = format!("the certificate of {who} ends in {days} days");
                problem("certificate_ends", what, REMEDY)
            })
            .collect()
    }
}
