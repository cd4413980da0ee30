//! `parlance app secret`: a new secret beside the old one, and the end of the old one.

use std::path::Path;

use anyhow::Context;
use parlance_proto::admin::v1::{AddAppSecretRequest, RetireAppSecretRequest};
use parlance_proto::common::v1::TokenFormat;
use parlance_proto::ids::AppId;
use serde::Serialize;

use super::SecretView;
use crate::admin::Admin;
use crate::args::{SecretCommand, TokenFormatArg};
use crate::commands::Session;
use crate::output::{Output, confirm, say, time_text};
use crate::token::secret_of_file;

#[derive(Serialize)]
struct Secrets {
    app_id: String,
    secrets: Vec<SecretView>,
}

#[derive(Serialize)]
struct Retired {
    app_id: String,
    secret_id: String,
}

pub(super) async fn run(session: &Session, command: SecretCommand) -> anyhow::Result<()> {
    match command {
        SecretCommand::Add {
            app_id,
            format,
            secret_file,
        } => add(session, &app_id, format, secret_file.as_deref()).await,
        SecretCommand::List { app_id, reveal } => list(session, &app_id, reveal).await,
        SecretCommand::Retire {
            app_id,
            secret_id,
            yes,
        } => retire(session, &app_id, secret_id, yes).await,
    }
}

async fn add(
    session: &Session,
    app_id: &AppId,
    format: TokenFormatArg,
    file: Option<&Path>,
) -> anyhow::Result<()> {
    let given = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| format!("read secret file {}", file.display()))?;
            secret_of_file(&text)?
        }
        None => String::new(),
    };
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let what = format!("add a secret to app {app_id:?}");
    let request = AddAppSecretRequest {
        app_id: app_id.into(),
        format: TokenFormat::from(format).into(),
        secret: given,
    };
    let answer = admin.api.add_app_secret(request).await;
    let secret = answer
        .map_err(|status| admin.failed(&what, &status))?
        .into_inner()
        .secret
        .with_context(|| format!("{what}: the node answered without it"))?;
    if format == TokenFormatArg::Alivc {
        say(format!(
            "in an alivc token nothing separates user id and nonce, so that one token fits several users: if your server's nonces begin with AK-, say `parlance app set {app_id} --alivc-nonce-prefix true`"
        ));
    }
    if file.is_some() {
        say("tokens that the app's own server makes with this secret are taken from now on");
        let shown = SecretView {
            secret: String::new(),
            ..secret.into()
        };
        return print(session, app_id, vec![shown]);
    }
    say(
        "tokens of this secret and of the ones before are taken: give it to the app's own server, then retire the other of its format",
    );
    print(session, app_id, vec![secret.into()])
}

async fn list(session: &Session, app_id: &AppId, reveal: bool) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let app = admin.app(app_id, reveal).await?;
    let secrets = app.secrets.into_iter().map(SecretView::from).collect();
    print(session, app_id, secrets)
}

async fn retire(
    session: &Session,
    app_id: &AppId,
    secret_id: String,
    yes: bool,
) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let what = format!("retire secret {secret_id} of app {app_id:?}");
    confirm(&what, yes)?;
    let retired = Retired {
        app_id: app_id.into(),
        secret_id,
    };
    let request = RetireAppSecretRequest {
        app_id: retired.app_id.clone(),
        secret_id: retired.secret_id.clone(),
    };
    let answer = admin.api.retire_app_secret(request).await;
    answer.map_err(|status| admin.failed(&what, &status))?;
    session.output.print(&retired, |_, retired| {
        format!("secret {} is retired", retired.secret_id)
    })
}

fn print(session: &Session, app_id: &AppId, secrets: Vec<SecretView>) -> anyhow::Result<()> {
    let secrets = Secrets {
        app_id: app_id.into(),
        secrets,
    };
    session
        .output
        .print(&secrets, |output, s| table(output, &s.app_id, &s.secrets))
}

/// With the texts, if any is there.
pub(super) fn table(output: &Output, app_id: &str, secrets: &[SecretView]) -> String {
    let revealed = secrets.iter().any(|s| !s.secret.is_empty());
    let mut head = vec!["APP", "SECRET ID", "FORMAT", "CREATED"];
    head.extend(revealed.then_some("SECRET"));
    let mut table = output.table(&head);
    for secret in secrets {
        let mut row = vec![
            app_id.to_owned(),
            secret.secret_id.clone(),
            secret.format.to_string(),
            time_text(secret.created_ms),
        ];
        row.extend(revealed.then(|| secret.secret.clone()));
        table.add_row(row);
    }
    table.to_string()
}
