//! The options of `parlance bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use parlance_proto::ids::AppId;

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Acknowledged messages a second, from client socket to client socket
    Send(SendBenchArgs),
    /// Deliveries a second to many sessions of one user
    Fanout(FanoutArgs),
    /// Memory of idle logged-in connections
    Connections(ConnectionsArgs),
    /// Longest gap without an acknowledgement on any shard after kill -9 of each node in turn; always an own cluster
    Failover(FailoverArgs),
}

/// What is loaded: a cluster made for the run, or the current context's.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub struct TargetArgs {
    /// Start a cluster of so many nodes for this run, as real processes; without it the context's cluster is loaded
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: Option<u64>,
    /// Gateways of the cluster that is started
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub gateways: u16,
    /// Shards of the cluster that is started; by nodes and cores if not given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub shards: Option<u32>,
    /// Folder for the data of the cluster that is started; default: the system's folder for temporary files
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// TOML laid over the settings of every node, as in 'raft.append_window = 4'; may be repeated
    #[arg(long, value_name = "TOML")]
    pub node_setting: Vec<String>,
    /// TOML laid over the settings of every gateway; may be repeated
    #[arg(long, value_name = "TOML")]
    pub gateway_setting: Vec<String>,
    /// Keep data and logs of the cluster that is started
    #[arg(long)]
    pub keep: bool,
    /// The app, when the context's cluster is loaded; default: the context's
    #[arg(long)]
    pub app: Option<AppId>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct SendBenchArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Senders that each wait for their acknowledgement before the next message; one run for each number
    #[arg(long, value_delimiter = ',', default_value = "1,64,1024")]
    pub senders: Vec<usize>,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(32..=16_384))]
    pub payload: u16,
    /// How long each run is measured
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub length: Duration,
    /// How long each run goes before it is measured
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// Then look for the highest rate whose p99 of acknowledgement stays under this; 0ms: do not look
    #[arg(long, default_value = "200ms", value_parser = humantime::parse_duration)]
    pub p99_limit: Duration,
    /// Only this rate in messages a second, offered whatever the answers (no search, no --senders)
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<u32>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct FanoutArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Sessions of the one receiving user; one run for each number
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    pub receivers: Vec<usize>,
    /// Messages under way at a time
    #[arg(long, default_value_t = 8)]
    pub in_flight: usize,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(32..=16_384))]
    pub payload: u16,
    /// How long each run is measured
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub length: Duration,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ConnectionsArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Connections to open, each of a user of its own
    #[arg(long, default_value_t = 10_000)]
    pub count: usize,
    /// Connections that are being opened at a time
    #[arg(long, default_value_t = 64)]
    pub at_once: usize,
    /// How long they stay idle before memory is read
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub settle: Duration,
}

#[derive(Debug, Clone, clap::Args)]
pub struct FailoverArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Senders, spread over the shards
    #[arg(long, default_value_t = 512)]
    pub senders: usize,
    /// Messages a second, all together
    #[arg(long, default_value_t = 4_000)]
    pub rate: u32,
    /// Time before each kill, between kill and restart, and after it
    #[arg(long, default_value = "6s", value_parser = humantime::parse_duration)]
    pub pause: Duration,
}
