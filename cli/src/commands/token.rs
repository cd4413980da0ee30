//! `parlance token issue`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use parlance_proto::ids::{AppId, UserId};
use serde::Serialize;

use crate::admin::Admin;
use crate::args::TokenCommand;
use crate::commands::Session;
use crate::token;

#[derive(Serialize)]
struct Issued {
    token: String,
    app_id: String,
    user_id: String,
    /// ms since 1970 UTC.
    expires_ms: u64,
}

pub async fn run(session: &Session, command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::Issue {
        user,
        app,
        ttl,
        secret_file,
    } = command;
    let (app, secret) = match secret_file {
        Some(file) => offline(session, app, &file)?,
        None => online(session, app).await?,
    };
    issue(session, &app, &user, &secret, ttl)
}

/// Nothing is asked, unless it is which app is meant.
fn offline(session: &Session, app: Option<AppId>, file: &Path) -> anyhow::Result<(AppId, String)> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("read secret file {}", file.display()))?;
    let app = match app {
        Some(app) => app,
        None => session.resolve()?.context.app(None)?,
    };
    Ok((app, token::secret_of_file(&text)?))
}

async fn online(session: &Session, app: Option<AppId>) -> anyhow::Result<(AppId, String)> {
    let context = session.resolve()?.context;
    let app = context.app(app.as_ref())?;
    let secret = Admin::connect(&context).await?.app_secret(&app).await?;
    Ok((app, secret))
}

fn issue(
    session: &Session,
    app: &AppId,
    user: &UserId,
    secret: &str,
    ttl: Duration,
) -> anyhow::Result<()> {
    let (token, claims) = token::issue(app, user, secret, ttl)?;
    let issued = Issued {
        token,
        app_id: claims.app,
        user_id: claims.sub,
        expires_ms: claims.exp.saturating_mul(1000),
    };
    // The bare token, so that a script can take it as it is.
    session
        .output
        .print(&issued, |_, issued| issued.token.clone())
}
