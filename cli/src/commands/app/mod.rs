//! `parlance app`: the tenants of a cluster.

mod alias;
mod create;
mod limits;
mod list;
mod secret;
mod set;

use parlance_proto::admin::v1::{App, AppSecret};
use parlance_proto::common::v1::AppLimits;
use serde::Serialize;

use crate::args::{AppCommand, LimitArgs, TokenFormatArg};
use crate::commands::Session;

pub async fn run(session: &Session, command: AppCommand) -> anyhow::Result<()> {
    match command {
        AppCommand::Create {
            app_id,
            name,
            token_life_max,
            limits,
        } => create::run(session, app_id, name, token_life_max, &limits).await,
        AppCommand::Limits { app_id, limits } => limits::run(session, &app_id, &limits).await,
        AppCommand::List => list::run(session).await,
        AppCommand::Set { app_id, settings } => set::settings(session, app_id, settings).await,
        AppCommand::Alias(command) => alias::run(session, command).await,
        AppCommand::Disable { app_id, yes } => set::disabled(session, app_id, true, yes).await,
        AppCommand::Enable { app_id } => set::disabled(session, app_id, false, true).await,
        AppCommand::Secret(command) => secret::run(session, command).await,
    }
}

/// An app as JSON; secrets only where the node gave them.
#[derive(Serialize)]
struct AppView {
    app_id: String,
    name: String,
    disabled: bool,
    created_ms: i64,
    token_life_max_ms: u64,
    aliases: Vec<String>,
    token04_gcm_only: bool,
    alivc_nonce_prefix: bool,
    limits: LimitsView,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<SecretView>,
}

/// Messages a second; 0 where the gateways' settings count.
#[derive(Serialize)]
struct LimitsView {
    session_messages_per_second: u32,
    user_messages_per_second: u32,
    app_messages_per_second: u32,
}

#[derive(Serialize)]
struct SecretView {
    secret_id: String,
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    secret: String,
    created_ms: i64,
    format: TokenFormatArg,
}

impl AppView {
    fn state(&self) -> &'static str {
        if self.disabled { "disabled" } else { "enabled" }
    }
}

impl From<App> for AppView {
    fn from(app: App) -> Self {
        let policy = app.token_policy.unwrap_or_default();
        Self {
            app_id: app.app_id,
            aliases: app.aliases,
            token04_gcm_only: policy.token04_gcm_only,
            alivc_nonce_prefix: policy.alivc_nonce_prefix,
            name: app.name,
            disabled: app.disabled,
            created_ms: app.created_ms,
            limits: app.limits.unwrap_or_default().into(),
            token_life_max_ms: app.token_life_max_ms,
            secrets: app.secrets.into_iter().map(SecretView::from).collect(),
        }
    }
}

impl From<AppSecret> for SecretView {
    fn from(secret: AppSecret) -> Self {
        let format = secret.format().into();
        Self {
            format,
            secret_id: secret.secret_id,
            secret: secret.secret,
            created_ms: secret.created_ms,
        }
    }
}

impl From<AppLimits> for LimitsView {
    fn from(limits: AppLimits) -> Self {
        Self {
            session_messages_per_second: limits.session_messages_per_second,
            user_messages_per_second: limits.user_messages_per_second,
            app_messages_per_second: limits.app_messages_per_second,
        }
    }
}

/// What was said, over what was said before.
fn changed(args: &LimitArgs, before: AppLimits) -> AppLimits {
    AppLimits {
        session_messages_per_second: args
            .messages_per_second
            .unwrap_or(before.session_messages_per_second),
        user_messages_per_second: args
            .user_messages_per_second
            .unwrap_or(before.user_messages_per_second),
        app_messages_per_second: args
            .app_messages_per_second
            .unwrap_or(before.app_messages_per_second),
    }
}
