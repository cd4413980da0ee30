//! Messages, as a user sends and reads them.

use parlance_proto::ids::{AppId, ClientMessageId, UserId};

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
