//! `parlance app`: the tenants of a cluster.

mod create;
mod list;

use parlance_proto::admin::v1::App;
use serde::Serialize;

use crate::args::AppCommand;
use crate::commands::Session;

pub async fn run(session: &Session, command: AppCommand) -> anyhow::Result<()> {
    match command {
        AppCommand::Create { app_id, name } => create::run(session, app_id, name).await,
        AppCommand::List => list::run(session).await,
    }
}

/// An app as JSON; secrets only where the node gave them.
#[derive(Serialize)]
struct AppView {
    app_id: String,
    name: String,
    disabled: bool,
    created_ms: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<SecretView>,
}

#[derive(Serialize)]
struct SecretView {
    secret_id: String,
    secret_hex: String,
}

impl From<App> for AppView {
    fn from(app: App) -> Self {
        let secrets = app.secrets.into_iter().map(|s| SecretView {
            secret_id: s.secret_id,
            secret_hex: s.secret_hex,
        });
        Self {
            app_id: app.app_id,
            name: app.name,
            disabled: app.disabled,
            created_ms: app.created_ms,
            secrets: secrets.collect(),
        }
    }
}
