//! Nodes, the cluster, and certificates that it denies.

use std::time::Duration;

use clap::Subcommand;

use super::NodeSpecArg;

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Put a new node in the place of a lost one: it learns first, then votes; the old one is never let in again
    Replace {
        /// Id of the lost node
        old: u64,
        /// The new node, running with an empty data directory
        #[arg(long, value_name = "ID=RAFT_ADDR,LINK_ADDR")]
        with: NodeSpecArg,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Hand all leaderships of a node to others, as before a planned stop
    Drain {
        node_id: u64,
        /// How long to wait for it
        #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make a cluster of running nodes with empty data directories; once in its life
    Init {
        /// A node of the new cluster; repeat it for each
        #[arg(long = "node", required = true, value_name = "ID=RAFT_ADDR,LINK_ADDR")]
        nodes: Vec<NodeSpecArg>,
        /// Shards to begin with, 1 to 512; by nodes and cores if not given
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
        shards: Option<u32>,
    },
    /// Nodes, shards, gateways and what is wrong with them; exits with 0 whatever it shows
    Status {
        /// Every shard, not only those with something to say
        #[arg(long)]
        shards: bool,
    },
    /// Exit with 0 if all is well, else with 1 and what is wrong and what to do
    Check {
        /// Look again until all is well, for so long at most
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        wait: Option<Duration>,
    },
    /// Split a shard in two, under load
    Split {
        /// The shard
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        shard: u32,
        /// The first slot of the new shard; the middle of the range if not given
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..16384))]
        at: Option<u32>,
    },
    /// Raise the feature level to the highest that all nodes support; older programs can no longer join
    Upgrade {
        /// Only say what would happen
        #[arg(long)]
        check: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// From now on nobody believes a certificate, as when its key was stolen: its connections are cut within a second
    Deny {
        /// Its serial number in hex, or its PEM file
        certificate: String,
        /// Why, for people
        #[arg(long, default_value = "")]
        reason: String,
        /// Also if a node or gateway uses it now, which is cut off then
        #[arg(long)]
        although_used: bool,
    },
    /// Believe a certificate again
    Allow {
        /// Its serial number in hex, or its PEM file
        certificate: String,
    },
    /// Those that are denied
    List,
}
