//! The settings of a gateway: each with its unit, default and range. Reading files and the environment is the
//! caller's concern; [`Config::validate`] names every fault at once by the key's path.

mod limits;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use parlance_proto::tls::{TlsFiles, is_gateway_id};
use serde::{Deserialize, Serialize};

pub use limits::Limits;

/// All settings of one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Names this gateway towards the nodes; unique in the cluster, and the one in its certificate. Default: none;
    /// required. 1 to 55 of a-z, 0-9 and `-`.
    pub gateway_id: String,
    /// Where clients connect: at least one. Default: none; required.
    pub listener: Vec<Listener>,
    /// Link addresses (`host:port`) of some nodes, asked for the cluster's state at start. Default: none; at least one.
    pub nodes: Vec<String>,
    /// The certificate (role gateway), key and CA for links to nodes. Default: none; required.
    pub tls: TlsFiles,
    /// A folder of static files that native listeners serve. Default: none.
    pub page_dir: Option<PathBuf>,
    /// Bounds on what clients may use.
    pub limits: Limits,
}

/// One way in for clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// Where it listens; required. Port 0 takes any free port.
    pub address: SocketAddr,
    /// What is spoken. Default: `native`.
    pub protocol: Protocol,
    /// Certificate and key. Default: none, which means plain text.
    pub tls: Option<ListenerTls>,
    /// Plain text although others than this machine can reach it: TLS ends in front of it. Default: false.
    pub plaintext: bool,
    /// Addresses or networks of proxies, which begin each connection with a PROXY protocol header of version 2. Nobody else
    /// can connect then. Default: none, and clients connect themselves.
    pub proxies: Vec<Network>,
}

/// An address, or all addresses with a prefix: `10.0.0.7` or `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| text.parse::<IpNet>());
        network
            .map(Self)
            .map_err(|_| format!("{text:?} is neither an address nor a network as in 10.0.0.0/8"))
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0.to_string()
    }
}

/// What clients speak on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Parlance's own protocol over WebSocket, at `/ws`, and the static files.
    #[default]
    Native,
}

/// PEM files of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            gateway_id: "gateway-1".to_owned(),
            listener: vec![Listener::default()],
            nodes: Vec::new(),
            tls: TlsFiles {
                ca: PathBuf::new(),
                cert: PathBuf::new(),
                key: PathBuf::new(),
            },
            page_dir: None,
            limits: Limits::default(),
        }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 7080)),
            protocol: Protocol::default(),
            tls: None,
            plaintext: false,
            proxies: Vec::new(),
        }
    }
}

impl Config {
    /// All faults, each beginning with the key's path.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        if !is_gateway_id(&self.gateway_id) {
            faults.push("gateway_id: needs 1 to 55 of a-z, 0-9 and - inside".to_owned());
        }
        if self.listener.is_empty() {
            faults.push("listener: needs at least one".to_owned());
        }
        for (i, listener) in self.listener.iter().enumerate() {
            let twice = self.listener[..i]
                .iter()
                .any(|l| l.address == listener.address);
            if twice && listener.address.port() != 0 {
                faults.push(format!(
                    "listener[{i}].address: {} is already used by another listener",
                    listener.address
                ));
            }
            faults.extend(listener.fault().map(|why| format!("listener[{i}].{why}")));
        }
        if self.nodes.is_empty() {
            faults.push("nodes: needs the link address of at least one node".to_owned());
        }
        for (i, address) in self.nodes.iter().enumerate() {
            if address
                .rsplit_once(':')
                .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
            {
                faults.push(format!("nodes[{i}]: {address:?} is not host:port"));
            }
        }
        for (key, path) in [
            ("tls.ca", &self.tls.ca),
            ("tls.cert", &self.tls.cert),
            ("tls.key", &self.tls.key),
        ] {
            if path.as_os_str().is_empty() {
                faults.push(format!("{key}: needs the path of a PEM file"));
            }
        }
        self.limits.faults(&mut faults);
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }
}

impl Listener {
    /// Plain text is for this machine, or for whoever says that TLS ends in front.
    fn fault(&self) -> Option<String> {
        match (&self.tls, self.plaintext) {
            (Some(_), true) => Some("plaintext: true, but there is a certificate too".to_owned()),
            (None, false) if !self.address.ip().is_loopback() => Some(format!(
                "tls: needed, since others can reach {}; if TLS ends in front of this gateway, say plaintext = true",
                self.address
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validate_names_every_fault_by_its_key() {
        let mut config = Config {
            nodes: vec!["nowhere".into()],
            ..Config::default()
        };
        config.limits.frame_bytes_max = 1;
        let faults = config.validate().unwrap_err();
        for key in [
            "nodes[0]",
            "tls.ca",
            "tls.cert",
            "tls.key",
            "limits.frame_bytes_max",
        ] {
            assert!(
                faults.iter().any(|f| f.starts_with(key)),
                "{key} in {faults:?}"
            );
        }
        assert_eq!(faults.len(), 5);
    }

    #[test]
    fn plain_text_for_others_must_be_meant() {
        let listener = |text: &str| toml::from_str::<Listener>(text).unwrap();
        let tls = "tls = { cert = \"c\", key = \"k\" }";
        for good in [
            "address = \"127.0.0.1:80\"",
            "address = \"[::1]:80\"",
            "address = \"0.0.0.0:80\"\nplaintext = true",
            &format!("address = \"0.0.0.0:443\"\n{tls}"),
        ] {
            assert_eq!(listener(good).fault(), None, "{good}");
        }
        for (bad, key) in [
            ("address = \"0.0.0.0:80\"", "tls"),
            ("address = \"[::]:80\"", "tls"),
            ("address = \"10.0.0.1:80\"", "tls"),
            (&format!("plaintext = true\n{tls}"), "plaintext"),
        ] {
            let fault = listener(bad).fault().unwrap_or_default();
            assert!(fault.starts_with(key), "{bad}: {fault}");
        }
    }

    #[test]
    fn unknown_settings_are_refused_by_name() {
        let error = toml::from_str::<Config>("[limits]\nframe_byte_max = 1").unwrap_err();
        assert!(error.to_string().contains("frame_byte_max"));
    }
}
