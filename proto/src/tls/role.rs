//! Who a certificate speaks for, by its DNS names.

use rustls_pki_types::CertificateDer;

use super::TlsError;

/// The suffix of all names in certificates.
pub const DOMAIN: &str = "parlance.internal";

/// The name that every node answers to.
pub const ANY_NODE: &str = "node.parlance.internal";

/// Bytes of a gateway's id: with `gateway-` before it, it must fit into one label of a DNS name.
pub const GATEWAY_ID_BYTES_MAX: usize = 55;

/// Who a certificate speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A node, by id.
    Node(u64),
    /// A gateway, by id.
    Gateway(String),
    /// An operator.
    Admin,
}

impl Role {
    /// The DNS names that a certificate of this role carries.
    pub fn dns_names(&self) -> Vec<String> {
        match self {
            Role::Node(id) => vec![node_name(*id), ANY_NODE.to_owned()],
            Role::Gateway(id) => vec![format!("gateway-{id}.{DOMAIN}")],
            Role::Admin => vec![format!("admin.{DOMAIN}")],
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Role::Node(id) => write!(f, "node {id}"),
            Role::Gateway(id) => write!(f, "gateway {id}"),
            Role::Admin => f.write_str("an operator"),
        }
    }
}

/// The name of one node.
pub fn node_name(node_id: u64) -> String {
    format!("node-{node_id}.{DOMAIN}")
}

/// Whether a text can be a gateway's id: 1 to 55 of a-z, 0-9 and `-`, which is neither first nor last.
pub fn is_gateway_id(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=GATEWAY_ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(allowed)
        && !id.starts_with('-')
        && !id.ends_with('-')
}

/// Who a certificate speaks for, by its DNS names. The caller has checked the signature.
pub fn role_of(leaf: &CertificateDer<'_>) -> Result<Role, TlsError> {
    let cert = webpki::EndEntityCert::try_from(leaf).map_err(|_| TlsError::NoRole)?;
    let suffix = format!(".{DOMAIN}");
    let hosts = cert
        .valid_dns_names()
        .filter_map(|name| name.strip_suffix(&suffix));
    for host in hosts {
        if host == "admin" {
            return Ok(Role::Admin);
        }
        if let Some(id) = host.strip_prefix("node-").and_then(|id| id.parse().ok()) {
            return Ok(Role::Node(id));
        }
        if let Some(id) = host.strip_prefix("gateway-").filter(|id| is_gateway_id(id)) {
            return Ok(Role::Gateway(id.to_owned()));
        }
    }
    Err(TlsError::NoRole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_id_fits_into_a_name() {
        let longest = "g".repeat(GATEWAY_ID_BYTES_MAX);
        for good in ["1", "east-1", "a--b", longest.as_str()] {
            assert!(is_gateway_id(good), "{good}");
        }
        let too_long = "g".repeat(GATEWAY_ID_BYTES_MAX + 1);
        for bad in ["", "East", "a.b", "a_b", "-a", "a-", "ä", too_long.as_str()] {
            assert!(!is_gateway_id(bad), "{bad}");
        }
        let label = format!("gateway-{longest}");
        assert!(
            label.len() <= 63,
            "a label of a DNS name has up to 63 bytes"
        );
    }
}
