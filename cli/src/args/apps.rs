//! Apps, their users, sessions and tokens.

use std::path::PathBuf;
use std::time::Duration;

use std::fmt;

use clap::{Subcommand, ValueEnum};
use parlance_proto::common::v1::TokenFormat;
use parlance_proto::ids::{AppAlias, AppId, UserId};

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
    /// Change an app's settings; what is not said stays
    Set {
        app_id: AppId,
        #[command(flatten)]
        settings: AppSettingsArgs,
    },
    /// Other names of an app, as a vendor's number for it
    #[command(subcommand)]
    Alias(AliasCommand),
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

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub struct AppSettingsArgs {
    /// The longest life of a token, 1 minute to 1 year; sessions stay as long as theirs
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub token_life_max: Option<Duration>,
    /// Take Token04 only in the form that uses AES-GCM: the other one can be changed unseen
    #[arg(long, value_name = "BOOL")]
    pub token04_gcm_only: Option<bool>,
    /// Take alivc tokens only with nonces that begin with AK-, and user ids without it: else one token fits several users
    #[arg(long, value_name = "BOOL")]
    pub alivc_nonce_prefix: Option<bool>,
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
pub enum AliasCommand {
    /// Give an app another name, which no other app has; 8 at most
    Add {
        app_id: AppId,
        /// 1 to 64 of A-Z, a-z, 0-9, _ and -
        alias: AppAlias,
    },
    /// Take a name away: clients that use it no longer find the app
    Remove { app_id: AppId, alias: AppAlias },
}

/// A format of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenFormatArg {
    /// JSON Web Token, HS256
    #[default]
    Jwt,
    /// Tencent UserSig 2.0
    Usersig,
    /// ZEGO Token04
    Token04,
    /// Alibaba interactive messaging
    Alivc,
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Put a secret beside the one in use: tokens of either are taken
    Add {
        app_id: AppId,
        /// The format of the tokens that it signs; an app has two secrets of each at most
        #[arg(long, value_enum, default_value_t)]
        format: TokenFormatArg,
        /// File with a secret that the app's own server has already; default: make one
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
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
    Issue(TokenIssueArgs),
}

#[derive(Debug, clap::Args)]
pub struct TokenIssueArgs {
    /// The user
    #[arg(long)]
    pub user: UserId,
    /// The user's app; default: the context's
    #[arg(long)]
    pub app: Option<AppId>,
    /// How the app is called in the token; default: for usersig and token04 its first alias that is a number, else its id. With a secret file its id
    #[arg(long)]
    pub alias: Option<AppAlias>,
    /// Of the token; the app needs a secret of it
    #[arg(long, value_enum, default_value_t)]
    pub format: TokenFormatArg,
    /// Give the user the role of an admin; jwt and alivc only
    #[arg(long)]
    pub admin: bool,
    /// How long it is good for, as in 90s, 15m, 24h, 7d
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
    /// File with the app's secret of this format: then no node is asked
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

impl From<TokenFormatArg> for TokenFormat {
    fn from(format: TokenFormatArg) -> Self {
        match format {
            TokenFormatArg::Jwt => Self::Jwt,
            TokenFormatArg::Usersig => Self::Usersig,
            TokenFormatArg::Token04 => Self::Token04,
            TokenFormatArg::Alivc => Self::Alivc,
        }
    }
}

impl From<TokenFormat> for TokenFormatArg {
    fn from(format: TokenFormat) -> Self {
        match format {
            TokenFormat::Unspecified | TokenFormat::Jwt => Self::Jwt,
            TokenFormat::Usersig => Self::Usersig,
            TokenFormat::Token04 => Self::Token04,
            TokenFormat::Alivc => Self::Alivc,
        }
    }
}

impl fmt::Display for TokenFormatArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jwt => "jwt",
            Self::Usersig => "usersig",
            Self::Token04 => "token04",
            Self::Alivc => "alivc",
        })
    }
}
