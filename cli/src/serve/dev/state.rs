//! What a dev cluster remembers between runs beside its data: which nodes it has and where they listen. `dev.toml`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::args::DevArgs;
use crate::files;
use crate::output::say;

/// Written by every run that changes it, read by every run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DevState {
    pub nodes: Vec<DevNode>,
}

/// A node and where it listens, on this machine only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DevNode {
    pub node_id: u64,
    pub link_address: SocketAddr,
    pub raft_address: SocketAddr,
}

impl DevState {
    /// Goes on with what is there. A port that somebody else has taken since is replaced; the node tells the cluster.
    pub(super) fn load_or_create(dir: &Path, args: &DevArgs) -> anyhow::Result<Self> {
        let path = dir.join("dev.toml");
        let before: Option<Self> = match std::fs::read_to_string(&path) {
            Ok(text) => {
                Some(toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
        };
        let state = match &before {
            Some(state) => {
                let kept = u64::try_from(state.nodes.len()).unwrap_or_default();
                if kept != args.nodes {
                    say(format!(
                        "this data directory has a cluster of {kept} nodes: --nodes {} is not used",
                        args.nodes
                    ));
                }
                state.with_free_ports()?
            }
            None => Self {
                nodes: (1..=args.nodes)
                    .map(DevNode::on_free_ports)
                    .collect::<anyhow::Result<_>>()?,
            },
        };
        if before.as_ref() != Some(&state) {
            let text = toml::to_string(&state).context("write dev.toml")?;
            files::write_private(&path, text.as_bytes())?;
        }
        Ok(state)
    }

    pub(super) fn link_addresses(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| node.link_address.to_string())
            .collect()
    }

    fn with_free_ports(&self) -> anyhow::Result<Self> {
        let keep_or_replace = |node: &DevNode| {
            let link_address = if TcpListener::bind(node.link_address).is_ok() {
                node.link_address
            } else {
                free_tcp()?
            };
            let raft_address = if UdpSocket::bind(node.raft_address).is_ok() {
                node.raft_address
            } else {
                free_udp()?
            };
            Ok(DevNode {
                node_id: node.node_id,
                link_address,
                raft_address,
            })
        };
        Ok(Self {
            nodes: self
                .nodes
                .iter()
                .map(keep_or_replace)
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

impl DevNode {
    fn on_free_ports(node_id: u64) -> anyhow::Result<Self> {
        Ok(Self {
            node_id,
            link_address: free_tcp()?,
            raft_address: free_udp()?,
        })
    }
}

fn free_tcp() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free TCP port")?;
    listener.local_addr().context("find a free TCP port")
}

fn free_udp() -> anyhow::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free UDP port")?;
    socket.local_addr().context("find a free UDP port")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(line: &[&str]) -> DevArgs {
        match crate::args::Args::try_parse_from([&["parlance", "dev"], line].concat())
            .unwrap()
            .command
        {
            crate::args::Command::Dev(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nodes_and_addresses_stay_but_a_taken_port_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = DevState::load_or_create(dir.path(), &args(&[])).unwrap();
        assert_eq!(first.nodes.len(), 3);
        let second = DevState::load_or_create(dir.path(), &args(&["--nodes", "5"])).unwrap();
        assert_eq!(second, first);

        let taken = TcpListener::bind(first.nodes[0].link_address).unwrap();
        let third = DevState::load_or_create(dir.path(), &args(&[])).unwrap();
        assert_ne!(third.nodes[0].link_address, first.nodes[0].link_address);
        assert_eq!(third.nodes[0].raft_address, first.nodes[0].raft_address);
        assert_eq!(third.nodes[1..], first.nodes[1..]);
        drop(taken);
    }
}
