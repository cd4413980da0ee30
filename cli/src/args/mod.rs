//! The whole command tree on one page: noun, then verb.
//!
//! Where commands act is said once: a context (`parlance context`), a running `parlance dev`, or the flags of [`Globals`].

pub mod bench;
mod node_spec;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use parlance_proto::ids::{AppId, ClientMessageId, UserId};

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
    /// Folder with ca.pem, admin.pem and admin-key.pem (see `parlance ca`), in place of the context's
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
pub enum AppCommand {
    /// Make an app with a generated secret
    Create {
        /// 1 to 32 of a-z, 0-9 and -
        app_id: AppId,
        /// A name for people
        #[arg(long, default_value = "")]
        name: String,
        /// The longest life of a token, 1 minute to 1 year
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
        token_life_max: Duration,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// All apps, without their secrets
    List,
    /// Change an app's settings
    Set {
        app_id: AppId,
        /// The longest life of a token, 1 minute to 1 year; sessions stay as long as theirs
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        token_life_max: Duration,
    },
    /// Set what an app's users may do at most, or show it; gateways follow within a second
    Limits {
        /// The app
        app_id: AppId,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// End all sessions of an app's users, everywhere, and let nobody log in
    Disable {
        app_id: AppId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Let the users of a disabled app log in again
    Enable { app_id: AppId },
    /// The secrets that sign the tokens of an app's users
    #[command(subcommand)]
    Secret(SecretCommand),
}

/// Messages a second, each gateway for itself; 0 means the gateway's own setting.
#[derive(Debug, Default, clap::Args)]
pub struct LimitArgs {
    /// Messages a second of one session; 0: as the gateway's settings say
    #[arg(long, value_name = "N")]
    pub messages_per_second: Option<u32>,
    /// Messages a second of all sessions of one user; 0: as the gateway's settings say
    #[arg(long, value_name = "N")]
    pub user_messages_per_second: Option<u32>,
    /// Messages a second of all users of the app; 0: as the gateway's settings say
    #[arg(long, value_name = "N")]
    pub app_messages_per_second: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Make a secret beside the one in use: tokens of either are taken
    Add { app_id: AppId },
    /// An app's secrets, by id
    List {
        app_id: AppId,
        /// With their texts, which is noted in the node's log
        #[arg(long)]
        reveal: bool,
    },
    /// End a secret, and the sessions whose token it signed
    Retire {
        app_id: AppId,
        secret_id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// End a user's sessions, everywhere: only a token that was signed since lets them in again
    Kick {
        app_id: AppId,
        user_id: UserId,
        /// Nobody logs in as this user for so long, whatever the token; 0s lifts what an earlier kick said, which stays otherwise
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        lasts: Option<Duration>,
        /// What the user is told, 128 bytes at most
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// The sessions of all gateways that are linked to the node that answers
    List(SessionListArgs),
}

#[derive(Debug, clap::Args)]
pub struct SessionListArgs {
    /// Of one app
    #[arg(long)]
    pub app: Option<AppId>,
    /// Of one user
    #[arg(long)]
    pub user: Option<UserId>,
    /// Of one gateway
    #[arg(long, value_name = "GATEWAY_ID")]
    pub gateway: Option<String>,
    /// Sessions wanted, 1 to 100,000
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Sign a token for a user
    Issue {
        /// The user
        #[arg(long)]
        user: UserId,
        /// The user's app; default: the context's
        #[arg(long)]
        app: Option<AppId>,
        /// How long it is good for, as in 90s, 15m, 24h, 7d
        #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// File with the app's secret, as `parlance app create` prints it: then no node is asked
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
}

/// Who acts: a user by a token that is signed for the purpose, or by one that is given.
#[derive(Debug, clap::Args)]
pub struct ActorArgs {
    /// The user to act as; needs the right to read the app's secret
    #[arg(long = "as", value_name = "USER", required_unless_present = "token")]
    pub user: Option<UserId>,
    /// The user's app; default: the context's
    #[arg(long)]
    pub app: Option<AppId>,
    /// A ready token, in place of --as
    #[arg(long, env = "PARLANCE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct SendArgs {
    #[command(flatten)]
    pub actor: ActorArgs,
    /// The other user
    #[arg(long, value_name = "USER")]
    pub to: UserId,
    /// client_message_id, to repeat a send that may have been stored; default: a new one
    #[arg(long, value_name = "ID")]
    pub id: Option<ClientMessageId>,
    pub text: String,
}

#[derive(Debug, clap::Args)]
pub struct TailArgs {
    #[command(flatten)]
    pub actor: ActorArgs,
    /// Stop after so many events
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    #[command(flatten)]
    pub actor: ActorArgs,
    /// The other user
    #[arg(long = "with", value_name = "USER")]
    pub with: UserId,
    /// First seq wanted; default: the newest, or the oldest with --forward
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub start_seq: u64,
    /// Events wanted, 1 to 200
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: u32,
    /// Towards newer events
    #[arg(long)]
    pub forward: bool,
}

#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Add a context, or put another in its place; its addresses and certificates are the global options
    Add {
        name: String,
        /// The app that commands use when none is named
        #[arg(long)]
        app: Option<AppId>,
        /// For wss:// gateways: PEM file of the authority that signed their certificate; default: the system's
        #[arg(long, value_name = "FILE")]
        gateway_ca: Option<PathBuf>,
    },
    /// Choose the context that commands use when none is named
    Use { name: String },
    /// All contexts, running dev clusters included
    List,
    /// The context in effect, or the one named
    Show { name: Option<String> },
    /// Forget a context
    Remove { name: String },
}

#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make a certificate authority: ca.pem and ca-key.pem. Keep the key off the servers
    Create {
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Issue the certificate of a process or an operator
    #[command(subcommand)]
    Issue(IssueCommand),
    /// The certificates of the folder: whose they are, when they end, by which authority
    Status {
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Begin to move to a new authority: it issues from now on, and ca.pem has both
    Rotate {
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// End the move: ca.pem has the new authority only
    Retire {
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
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

#[derive(Debug, Subcommand)]
pub enum IssueCommand {
    /// node-<ID>.pem and node-<ID>-key.pem
    Node {
        #[arg(long)]
        id: u64,
        #[command(flatten)]
        common: IssueArgs,
    },
    /// gateway-<ID>.pem and gateway-<ID>-key.pem
    Gateway {
        /// Its gateway_id: 1 to 55 of a-z, 0-9 and -
        #[arg(long)]
        id: String,
        #[command(flatten)]
        common: IssueArgs,
    },
    /// admin.pem and admin-key.pem: may do everything with the cluster
    Admin {
        #[command(flatten)]
        common: IssueArgs,
    },
}

#[derive(Debug, clap::Args)]
pub struct IssueArgs {
    /// Folder with ca.pem and ca-key.pem; the certificate is written there
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// How long it is good for
    #[arg(long, default_value = "825d", value_parser = humantime::parse_duration)]
    pub valid: Duration,
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
