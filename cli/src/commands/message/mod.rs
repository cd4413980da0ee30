//! What a user does, from a terminal: `parlance send`, `parlance tail`, `parlance history`.

pub mod history;
pub mod send;
pub mod tail;
mod view;

use std::time::Duration;

use parlance_client::{Client, ClientError, LoginOptions, Options, PushStream, connect};
use parlance_proto::common::v1::TokenFormat;
use parlance_proto::ids::{AppId, UserId};

use crate::admin::Admin;
use crate::args::ActorArgs;
use crate::commands::Session;
use crate::context::ClusterContext;
use crate::exit::not_possible;
use crate::{output, token};

/// Long enough for any command but `tail`, which renews it.
const TOKEN_TTL: Duration = Duration::from_secs(3600);

/// Who acts, and where.
pub(super) struct Actor {
    context: ClusterContext,
    token: TokenSource,
}

enum TokenSource {
    Given(String),
    /// Signed anew for each login.
    Signed {
        app: AppId,
        user: UserId,
        secret: String,
    },
}

impl Actor {
    pub(super) async fn find(session: &Session, args: &ActorArgs) -> anyhow::Result<Self> {
        let context = session.resolve()?.context;
        if context.gateways.is_empty() {
            return Err(not_possible(
                "no gateway is known: give --via ws://HOST:PORT/ws, or choose a context that has one",
            ));
        }
        let token = match (&args.token, &args.user) {
            (Some(token), None) => TokenSource::Given(token.clone()),
            (_, Some(user)) => {
                let app = context.app(args.app.as_ref())?;
                let secret = Admin::connect(&context)
                    .await?
                    .app_secret(&app, TokenFormat::Jwt)
                    .await?;
                TokenSource::Signed {
                    app,
                    user: user.clone(),
                    secret,
                }
            }
            (None, None) => {
                return Err(not_possible("nobody acts: give --as USER or --token TOKEN"));
            }
        };
        Ok(Self { context, token })
    }

    /// Logs in at the first gateway that answers. A refused login is final: no other gateway would take it.
    pub(super) async fn log_in(&self) -> anyhow::Result<(Client, PushStream)> {
        let token = self.new_token()?;
        let mut failures = Vec::new();
        for url in &self.context.gateways {
            match self.log_in_at(url, &token).await {
                Ok(connected) => return Ok(connected),
                Err(ClientError::Rejected(error)) if !error.is_retryable() => {
                    return Err(anyhow::Error::from(error).context(format!("log in at {url}")));
                }
                Err(e) => failures.push(format!("{url}: {e}")),
            }
        }
        Err(anyhow::anyhow!(
            "no gateway takes the login:\n  {}\ncheck that gateways run at these addresses (`parlance context show`)",
            failures.join("\n  ")
        ))
    }

    /// The one that was given, or one that is signed now.
    pub(super) fn new_token(&self) -> anyhow::Result<String> {
        match &self.token {
            TokenSource::Given(token) => Ok(token.clone()),
            TokenSource::Signed { app, user, secret } => {
                Ok(token::issue(app, user, secret, TOKEN_TTL)?)
            }
        }
    }

    async fn log_in_at(&self, url: &str, token: &str) -> Result<(Client, PushStream), ClientError> {
        let options = Options {
            gateway_ca: self.context.gateway_ca.clone(),
            ..Options::default()
        };
        let (client, pushes) = connect(url, options).await?;
        let myself = LoginOptions {
            platform: "cli".to_owned(),
            ..LoginOptions::default()
        };
        client.login(token, &myself).await?;
        Ok((client, pushes))
    }
}

/// Says on stderr what happens to the connection.
fn say(text: impl AsRef<str>) {
    output::say(text);
}
