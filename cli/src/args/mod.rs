//! The command tree: noun, then verb. This file has what all share; the groups of commands have a file each.
//!
//! Where commands act is said once: a context (`parlance context`), a running `parlance dev`, or the flags of [`Globals`].

mod apps;
pub mod bench;
mod cluster;
mod files;
mod messages;
mod node_spec;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

pub use apps::{
    AliasCommand, AppCommand, AppSettingsArgs, LimitArgs, SecretCommand, SessionCommand,
    SessionListArgs, TokenCommand, TokenFormatArg, TokenIssueArgs, UserCommand,
};
pub use cluster::{CertificateCommand, ClusterCommand, NodeCommand};
pub use files::{CaCommand, ContextCommand, IssueArgs, IssueCommand};
pub use messages::{ActorArgs, HistoryArgs, SendArgs, TailArgs};
pub use node_spec::NodeSpecArg;

/// Parlance: a self-hosted messaging cluster. This one program runs its processes and operates them.
#[derive(Debug, Parser)]
#[command(
    name = "parlance",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 request refused, 64 bad usage.")]
pub struct Args {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// How data is printed on stdout; everything else goes to stderr
    #[arg(
        long,
        value_enum,
        global = true,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub output: OutputFormat,
    /// Which cluster: a context's name, or a context file; else the current context, else a running `parlance dev`
    #[arg(
        long,
        global = true,
        env = "PARLANCE_CONTEXT",
        hide_env_values = true,
        value_name = "NAME|FILE"
    )]
    pub context: Option<String>,
    /// A node's admin address HOST:PORT, in place of the context's; may be repeated
    #[arg(
        long,
        global = true,
        env = "PARLANCE_SERVERS",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "HOST:PORT"
    )]
    pub server: Vec<String>,
    /// A gateway's address ws://HOST:PORT/ws, in place of the context's; may be repeated
    #[arg(
        long = "via",
        global = true,
        env = "PARLANCE_VIA",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub via: Vec<String>,
    /// Folder with ca.pem and an operator's certificate and key (see `parlance ca issue admin`), in place of the context's
    #[arg(
        long,
        global = true,
        env = "PARLANCE_TLS_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub tls_dir: Option<PathBuf>,
    /// Log filter for stderr, as in `info` or `warn,parlance_node=debug`
    #[arg(
        long,
        global = true,
        env = "PARLANCE_LOG",
        hide_env_values = true,
        value_name = "FILTER"
    )]
    pub log: Option<String>,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// For programs: stable field names; streams are one object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster in this one process, for development; its data is kept between runs
    Dev(DevArgs),
    /// Run a node, or change the nodes of a cluster
    Node(NodeArgs),
    /// Run a gateway
    Gateway(ProcessArgs),
    /// Create, inspect and grow a cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Apps: the tenants of a cluster
    #[command(subcommand)]
    App(AppCommand),
    /// The users of an app
    #[command(subcommand)]
    User(UserCommand),
    /// Who is logged in
    #[command(subcommand)]
    Session(SessionCommand),
    /// Tokens that users log in with
    #[command(subcommand)]
    Token(TokenCommand),
    /// Send a text to a user
    Send(SendArgs),
    /// Print what a user receives, until Ctrl-C
    Tail(TailArgs),
    /// Print a conversation
    History(HistoryArgs),
    /// Contexts: the clusters that this machine knows
    #[command(subcommand)]
    Context(ContextCommand),
    /// The cluster's certificate authority
    #[command(subcommand)]
    Ca(CaCommand),
    /// Certificates that the cluster denies, although they are good
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Load a cluster and measure it
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print the completions of a shell
    Completions { shell: clap_complete::Shell },
}

impl Command {
    /// Whether this runs a process that serves, with settings of its own for its logs.
    pub fn is_process(&self) -> bool {
        matches!(
            self,
            Command::Dev(_) | Command::Gateway(_) | Command::Node(NodeArgs { command: None, .. })
        )
    }
}

#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Nodes of the cluster, 1 to 9; only the first run in a data directory decides
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: u64,
    /// Gateways, 1 to 9
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub gateways: u16,
    /// Where certificates and data are kept; default: parlance/dev in the XDG data folder
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the first gateway and the page; the next gateways take the next ports, port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "HOST:PORT")]
    pub http: SocketAddr,
    /// Folder with the demo page
    #[arg(long, value_name = "DIR")]
    pub page_dir: Option<PathBuf>,
    /// Address of /metrics, /healthz and /readyz; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub ops: SocketAddr,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NodeArgs {
    #[command(flatten)]
    pub process: ProcessArgs,
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
}

/// How a production process finds its settings: the file, then the environment, which wins.
#[derive(Debug, clap::Args)]
pub struct ProcessArgs {
    /// TOML file with the settings; PARLANCE_NODE__… and PARLANCE_GATEWAY__… variables win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only check the settings, and print those in effect
    #[arg(long)]
    pub check: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_node_is_run_or_changed_but_not_both() {
        let run = Args::try_parse_from(["parlance", "node", "--config", "n.toml"]).unwrap();
        assert!(matches!(
            run.command,
            Command::Node(NodeArgs { command: None, .. })
        ));
        let replace = [
            "parlance",
            "node",
            "replace",
            "2",
            "--with",
            "4=h:1,h:2",
            "--yes",
            "--output",
            "json",
        ];
        let replace = Args::try_parse_from(replace).unwrap();
        assert_eq!(replace.globals.output, OutputFormat::Json);
        let before =
            Args::try_parse_from(["parlance", "--output", "json", "node", "drain", "1"]).unwrap();
        assert_eq!(before.globals.output, OutputFormat::Json);
        assert!(Args::try_parse_from(["parlance", "node", "--check", "drain", "1"]).is_err());
    }

    #[test]
    fn someone_must_act() {
        assert!(Args::try_parse_from(["parlance", "send", "--to", "bob", "hi"]).is_err());
        assert!(
            Args::try_parse_from(["parlance", "send", "--token", "t", "--to", "bob", "hi"]).is_ok()
        );
    }
}
