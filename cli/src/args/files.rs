//! What is on the operator's own machine: contexts, and the certificate authority.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use parlance_proto::ids::AppId;

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
    /// admin.pem and admin-key.pem, or admin-<NAME>.pem and admin-<NAME>-key.pem: may do everything with the cluster
    Admin {
        /// Who it is for: nodes log this name with whatever is done with it. 1 to 64 letters, digits and . _ @ -
        #[arg(long)]
        name: Option<String>,
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
