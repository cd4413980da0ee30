//! Why a node does not start.

use std::net::SocketAddr;

use parlance_proto::ids::NodeId;
use parlance_proto::tls::TlsError;

use super::identity::IdentityError;
use crate::raft::RaftError;
use crate::store::StoreError;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings break rules.
    #[error("settings: {}", .0.join("; "))]
    Config(Vec<String>),
    /// Certificates or keys.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// The certificate is somebody else's.
    #[error(
        "the certificate is one of {certificate}, not of node {node_id}: issue it with parlance ca issue node --id {node_id}"
    )]
    WrongCertificate {
        /// By the settings.
        node_id: NodeId,
        /// By the certificate.
        certificate: parlance_proto::tls::Role,
    },
    /// The data directory.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The Raft log, or a shard.
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// An address cannot be listened on.
    #[error("{what}: cannot listen on {address}: {source}")]
    Listen {
        /// Which setting.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The cluster runs at a level that this program does not speak.
    #[error(
        "the cluster runs at feature level {level}, this program speaks {min} to {max}: start a version that speaks it"
    )]
    FeatureLevel {
        /// By the cluster map.
        level: u32,
        /// The lowest that this program speaks.
        min: u32,
        /// The highest.
        max: u32,
    },
    /// The cluster was made with another lease.
    #[error(
        "raft.lease_ms: {own_ms} here, and {cluster_ms} in the cluster: all nodes must promise their leaders the same time, \
         or reads could be stale. Set raft.lease_ms = {cluster_ms}"
    )]
    Lease {
        /// By the settings.
        own_ms: u64,
        /// By the cluster map.
        cluster_ms: u64,
    },
    /// The directory of a known node is gone.
    #[error(
        "node {node_id} is a member of cluster {cluster_id}, says {seed}, but the data directory is empty: a node that \
         lost its directory must not vote as its old self. Restore the directory, or start this process with a new \
         node_id and run: parlance node replace {node_id} --with <new id>=<raft address>,<link address>"
    )]
    Known {
        /// This node.
        node_id: NodeId,
        /// Whose member.
        cluster_id: String,
        /// Who said so.
        seed: String,
    },
}

/// An address that cannot be listened on.
pub fn listen_error(
    what: &'static str,
    address: SocketAddr,
) -> impl Fn(std::io::Error) -> StartError {
    move |source| StartError::Listen {
        what,
        address,
        source,
    }
}
