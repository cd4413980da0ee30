//! The settings of a node. The file and the environment are read by the program; here is what they mean.

use std::net::SocketAddr;
use std::path::PathBuf;

use parlance_proto::ids::NodeId;
use parlance_proto::tls::TlsFiles;

use crate::raft::RaftConfig;
use crate::shard::ProposerLimits;

/// The settings of one node.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's id: above 0, unique in the cluster's whole life, the one in its certificate. No default.
    pub node_id: NodeId,
    /// Where the node keeps everything. Made if missing. No default.
    pub data_dir: PathBuf,
    /// Where other nodes reach it: QUIC over UDP. No default.
    pub raft_listen: SocketAddr,
    /// `host:port` that other nodes dial. Default: the address it listens on.
    #[serde(default)]
    pub raft_advertise: Option<String>,
    /// Where gateways and operators reach it: gRPC over TCP. No default.
    pub link_listen: SocketAddr,
    /// `host:port` that gateways and operators dial. Default: the address it listens on.
    #[serde(default)]
    pub link_advertise: Option<String>,
    /// Connections of gateways and operators. Default: 1024. At least 16.
    #[serde(default = "link_connections_max")]
    pub link_connections_max: usize,
    /// Bytes that may wait for all gateways together. Default: 268435456. At least 16777216.
    #[serde(default = "link_held_bytes_max")]
    pub link_held_bytes_max: usize,
    /// The cluster's CA, this node's certificate and key. No default.
    pub tls: TlsFiles,
    /// Link addresses of other nodes, asked at the start with an empty data directory whether this node id is known.
    /// Default: none.
    #[serde(default)]
    pub seeds: Vec<String>,
    /// Raft timing and log.
    #[serde(default)]
    pub raft: RaftConfig,
    /// How commands are gathered into entries.
    #[serde(default)]
    pub proposer: ProposerLimits,
    /// Give up the damaged end of the Raft log, once: for one start when no majority of nodes can open its log after a
    /// power cut. Default: false.
    #[serde(default)]
    pub recover_torn_log: bool,
}

impl Config {
    /// All that is wrong with the settings, each with the setting's name.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        if self.node_id.0 == 0 {
            faults.push("node_id: 0 is not allowed, ids start at 1".to_owned());
        }
        if self.data_dir.as_os_str().is_empty() {
            faults.push("data_dir: must not be empty".to_owned());
        }
        for (name, listen, advertise) in [
            ("raft", self.raft_listen, &self.raft_advertise),
            ("link", self.link_listen, &self.link_advertise),
        ] {
            match advertise {
                Some(address) if !is_host_and_port(address) => {
                    faults.push(format!("{name}_advertise: {address:?} is not host:port"));
                }
                None if listen.ip().is_unspecified() => faults.push(format!(
                    "{name}_advertise: needed, since {name}_listen {listen} is not an address that others can dial"
                )),
                _ => {}
            }
        }
        if self.link_connections_max < 16 {
            faults.push(format!(
                "link_connections_max: {} is not allowed, at least 16",
                self.link_connections_max
            ));
        }
        if self.link_held_bytes_max < LINK_HELD_BYTES_LEAST {
            faults.push(format!(
                "link_held_bytes_max: {} is not allowed, at least {LINK_HELD_BYTES_LEAST}",
                self.link_held_bytes_max
            ));
        }
        for seed in self.seeds.iter().filter(|seed| !is_host_and_port(seed)) {
            faults.push(format!("seeds: {seed:?} is not host:port"));
        }
        faults.extend(
            self.raft
                .faults()
                .into_iter()
                .map(|fault| format!("raft.{fault}")),
        );
        let limits = &self.proposer;
        for (name, value, least) in [
            ("entry_commands_max", limits.entry_commands_max, 1),
            ("entry_bytes_max", limits.entry_bytes_max, 1024),
            ("queue_commands_max", limits.queue_commands_max, 1),
            ("queue_bytes_max", limits.queue_bytes_max, 65_536),
        ] {
            if value < least {
                faults.push(format!(
                    "proposer.{name}: {value} is not allowed, at least {least}"
                ));
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }
}

/// A few large frames.
const LINK_HELD_BYTES_LEAST: usize = 16 << 20;

fn link_connections_max() -> usize {
    1024
}

fn link_held_bytes_max() -> usize {
    256 << 20
}

/// Whether an address is `host:port` with a port from 1 to 65,535.
pub fn is_host_and_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}
