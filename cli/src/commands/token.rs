//! `parlance token issue`.

use std::path::Path;

use anyhow::Context;
use parlance_proto::common::v1::TokenFormat;
use parlance_proto::ids::AppId;

use crate::admin::Admin;
use crate::args::{TokenCommand, TokenIssueArgs};
use crate::commands::Session;
use crate::token;

pub async fn run(session: &Session, command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::Issue(ask) = command;
    let format = ask.format.into();
    let (app, secret) = match &ask.secret_file {
        Some(file) => offline(session, &ask, file)?,
        None => online(session, &ask, format).await?,
    };
    let issued = token::issue_as(format, &app, &ask.user, ask.admin, &secret, ask.ttl)?;
    // The bare token, so that a script can take it as it is.
    session
        .output
        .print(&issued, |_, issued| issued.token.clone())
}

/// Nothing is asked, unless it is which app is meant.
fn offline(
    session: &Session,
    ask: &TokenIssueArgs,
    file: &Path,
) -> anyhow::Result<(String, String)> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("read secret file {}", file.display()))?;
    let app = match (&ask.alias, &ask.app) {
        (Some(alias), _) => alias.to_string(),
        (None, Some(app)) => app.into(),
        (None, None) => (&session.resolve()?.context.app(None)?).into(),
    };
    Ok((app, token::secret_of_file(&text)?))
}

async fn online(
    session: &Session,
    ask: &TokenIssueArgs,
    format: TokenFormat,
) -> anyhow::Result<(String, String)> {
    let context = session.resolve()?.context;
    let id: AppId = context.app(ask.app.as_ref())?;
    let mut admin = Admin::connect(&context).await?;
    let secret = admin.app_secret(&id, format).await?;
    if let Some(alias) = &ask.alias {
        return Ok((alias.to_string(), secret));
    }
    let number = if token::numbers_apps(format) {
        let aliases = admin.app(&id, false).await?.aliases;
        aliases.into_iter().find(|alias| token::is_number(alias))
    } else {
        None
    };
    Ok((number.unwrap_or_else(|| (&id).into()), secret))
}
