//! Gateways that some nodes do not reach, although they are there.

use parlance_proto::admin::v1::Problem;

use super::{Seen, problem, seconds};

/// A gateway acknowledges within milliseconds; one that has not for so long does not read, or does not answer.
const WEDGED_MS: u64 = 5_000;

impl Seen<'_> {
    /// A gateway that has a link to any node should have one to each that is heard.
    pub(super) fn unlinked_gateways(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for gateway in &self.status.gateways {
            let linked = |node_id| {
                let mut links = gateway.links.iter();
                links.any(|link| link.node_id == node_id && link.connected)
            };
            for node in self.members().filter(|node| node.reachable) {
                if !linked(node.node_id) {
                    found.push(problem(
                        "gateway_unlinked",
                        format!(
                            "gateway {} has no link to node {}",
                            gateway.gateway_id, node.node_id
                        ),
                        format!(
                            "look at the gateway's log, and whether it reaches {}",
                            node.link_address
                        ),
                    ));
                }
            }
        }
        found
    }

    pub(super) fn wedged_links(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for gateway in &self.status.gateways {
            let links = gateway.links.iter();
            for link in links.filter(|link| link.connected && link.waiting_ms > WEDGED_MS) {
                found.push(problem(
                    "link_wedged",
                    format!(
                        "gateway {} has not acknowledged node {} for {}",
                        gateway.gateway_id,
                        link.node_id,
                        seconds(link.waiting_ms)
                    ),
                    "its users miss pushes and answers of that node: look at the gateway's log, restart it if it lasts",
                ));
            }
        }
        found
    }
}
