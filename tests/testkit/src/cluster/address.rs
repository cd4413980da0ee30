//! A loopback address of each cluster's own: its ports are free, and stay free while a process is down.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};
use rand::Rng;

const LOCK_PORT: u16 = 7000;
const TRIES: usize = 64;

/// An address that no other cluster on this machine uses, while this lives.
pub struct Address {
    ip: Ipv4Addr,
    _lock: TcpListener,
}

impl Address {
    /// Takes a free one.
    pub fn take() -> Result<Self> {
        for _ in 0..TRIES {
            #[allow(
                clippy::disallowed_methods,
                reason = "runs beside each other must not meet"
            )]
            let mut rng = rand::rng();
            let ip = Ipv4Addr::new(
                127,
                rng.random_range(1..255),
                rng.random_range(1..255),
                rng.random_range(1..255),
            );
            if let Ok(lock) = TcpListener::bind((ip, LOCK_PORT)) {
                return Ok(Self { ip, _lock: lock });
            }
        }
        bail!("no free loopback address in {TRIES} tries")
    }

    /// Where a node speaks to nodes (UDP).
    pub fn raft(&self, node_id: u64) -> SocketAddr {
        self.port(7100 + node_id as u16)
    }

    /// Where others reach a node through a relay of ours (UDP).
    pub fn raft_relay(&self, node_id: u64) -> SocketAddr {
        self.port(7600 + node_id as u16)
    }

    /// Where a node speaks to gateways and operators.
    pub fn link(&self, node_id: u64) -> SocketAddr {
        self.port(7200 + node_id as u16)
    }

    /// Where gateways reach a node through a relay of ours.
    pub fn link_relay(&self, node_id: u64) -> SocketAddr {
        self.port(7700 + node_id as u16)
    }

    /// Metrics and health of a node.
    pub fn node_ops(&self, node_id: u64) -> SocketAddr {
        self.port(7300 + node_id as u16)
    }

    /// Where a gateway speaks to clients.
    pub fn gateway(&self, number: usize) -> SocketAddr {
        self.port(7400 + number as u16)
    }

    /// Metrics and health of a gateway.
    pub fn gateway_ops(&self, number: usize) -> SocketAddr {
        self.port(7500 + number as u16)
    }

    fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip, port))
    }
}
