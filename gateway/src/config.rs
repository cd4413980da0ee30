//! The settings of a gateway: each with its unit, default and range. Reading files and the environment is the
//! caller's concern; [`Config::validate`] names every fault at once by the key's path.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use parlance_proto::limits::FRAME_BYTES_MAX;
use parlance_proto::tls::{TlsFiles, is_gateway_id};
use serde::{Deserialize, Serialize};

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

/// Bounds on what clients may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of one client frame. Default: 65536. Range: 1024 to 4194304.
    pub frame_bytes_max: usize,
    /// Unanswered requests of one session. Default: 128. Range: 1 to 10000.
    pub requests_in_flight_max: u32,
    /// Bytes that wait for a session to read them; a session above it is cut off. Default: 1048576.
    /// Range: 65536 to 268435456. One frame always fits.
    pub outbound_bytes_max: usize,
    /// Frames that wait for a session to read them. Default: 8192. Range: 16 to 1000000.
    pub outbound_frames_max: usize,
    /// A silent connection is closed after this many ms; it is pinged half-way. Default: 60000. Range: 1000 to 3600000.
    pub idle_timeout_ms: u64,
    /// From the connection to a login, in ms. Default: 10000. Range: 100 to 600000.
    pub login_timeout_ms: u64,
    /// TLS handshake and HTTP up to the WebSocket upgrade, in ms. Default: 15000. Range: 100 to 600000.
    pub upgrade_timeout_ms: u64,
    /// One write to a socket (some queued frames) must end within this many ms. Default: 20000. Range: 100 to 600000.
    pub write_timeout_ms: u64,
    /// A request is retried for this many ms. Default: 10000. Range: 100 to 600000.
    pub request_timeout_ms: u64,
    /// Open client connections. Default: 100000. Range: 1 to 10000000.
    pub connections_max: usize,
    /// A session is told that its token ends so many ms before; 0 tells nobody. Default: 30000. Range: 0 to 3600000.
    pub token_warning_ms: u64,
    /// How long a graceful stop serves on, in ms. Default: 10000. Range: 0 to 3600000.
    pub drain_ms: u64,
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
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_MAX,
            requests_in_flight_max: 128,
            outbound_bytes_max: 1024 * 1024,
            outbound_frames_max: 8192,
            idle_timeout_ms: 60_000,
            login_timeout_ms: 10_000,
            upgrade_timeout_ms: 15_000,
            write_timeout_ms: 20_000,
            request_timeout_ms: 10_000,
            connections_max: 100_000,
            token_warning_ms: 30_000,
            drain_ms: 10_000,
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

impl Limits {
    fn faults(&self, faults: &mut Vec<String>) {
        let rows: [(&str, u64, u64, u64); 12] = [
            (
                "frame_bytes_max",
                self.frame_bytes_max as u64,
                1024,
                4 << 20,
            ),
            (
                "requests_in_flight_max",
                u64::from(self.requests_in_flight_max),
                1,
                10_000,
            ),
            (
                "outbound_bytes_max",
                self.outbound_bytes_max as u64,
                65_536,
                256 << 20,
            ),
            (
                "outbound_frames_max",
                self.outbound_frames_max as u64,
                16,
                1_000_000,
            ),
            ("idle_timeout_ms", self.idle_timeout_ms, 1000, 3_600_000),
            ("login_timeout_ms", self.login_timeout_ms, 100, 600_000),
            ("upgrade_timeout_ms", self.upgrade_timeout_ms, 100, 600_000),
            ("write_timeout_ms", self.write_timeout_ms, 100, 600_000),
            ("request_timeout_ms", self.request_timeout_ms, 100, 600_000),
            (
                "connections_max",
                self.connections_max as u64,
                1,
                10_000_000,
            ),
            ("token_warning_ms", self.token_warning_ms, 0, 3_600_000),
            ("drain_ms", self.drain_ms, 0, 3_600_000),
        ];
        for (key, value, min, max) in rows {
            if !(min..=max).contains(&value) {
                faults.push(format!("limits.{key}: {value} is outside {min} to {max}"));
            }
        }
    }

    pub(crate) fn token_warning(&self) -> Duration {
        Duration::from_millis(self.token_warning_ms)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) fn login_timeout(&self) -> Duration {
        Duration::from_millis(self.login_timeout_ms)
    }

    pub(crate) fn upgrade_timeout(&self) -> Duration {
        Duration::from_millis(self.upgrade_timeout_ms)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
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
