//! P6, apps and people under control: what an operator says holds on every gateway at once, for those who are there and those who
//! come, after a failover too; and nothing crosses apps. Others chat in another app all the while, and must not notice.

mod audit;
mod formats;
mod people;
mod secrets;
mod sessions;
mod stop;
mod tokens;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parlance_client::Format;
use parlance_proto::client::v1::server_frame::Body;
use parlance_tests::cli::Shell;
use parlance_tests::client::{CallError, Connection};
use parlance_tests::clock::unix_seconds;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::Allowed;
use parlance_tests::story::tell;
use parlance_tests::token::Signer;
use parlance_tests::wait::until;
use serde_json::json;

/// Far above the second that is promised: this machine does other work, too.
const SOON: Duration = Duration::from_secs(15);
/// The app that operators work on.
const SHOP: &str = "shop";

const TOKEN_REFUSED: u16 = 4002;
const KICKED: u16 = 4003;
const APP_DISABLED: u16 = 4006;
const TOKEN_EXPIRED: u16 = 4007;

/// Nodes that log so that a program can read it; gateways that warn two seconds before a token ends.
fn spec() -> ClusterSpec {
    ClusterSpec {
        shards: 2,
        node_settings: toml::from_str("log_format = \"json\"").unwrap_or_default(),
        gateway_settings: toml::from_str("[limits]\ntoken_warning_ms = 2000").unwrap_or_default(),
        ..ClusterSpec::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_say_holds_on_every_gateway_at_once() -> Result<()> {
    tell(spec(), Allowed::default(), async |cluster| {
        let shell = Shell::new(cluster)?;
        let shop = create(&shell, SHOP).await?;
        let bazaar = create(&shell, "bazaar").await?;
        people::kicked(cluster, &shell, &shop, &bazaar).await?;
        people::disabled(cluster, &shell, &shop, &bazaar).await?;
        secrets::rotated(cluster, &shell, &shop).await?;
        sessions::listed(cluster, &shell, &bazaar).await?;
        audit::every_step_is_in_a_log(cluster).await?;
        people::kicks_outlive_processes(cluster, &shell, &bazaar).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_with_their_tokens_unless_they_are_renewed() -> Result<()> {
    tell(spec(), Allowed::default(), async |cluster| {
        let shell = Shell::new(cluster)?;
        let shop = create(&shell, SHOP).await?;
        formats::vendors_tokens_log_in(cluster, &shell).await?;
        tokens::end(cluster, &shop).await?;
        tokens::live_no_longer_than_their_app_allows(cluster, &shell, &shop).await
    })
    .await
}

/// Makes an app by hand; signs its users' tokens with the secret as it is printed.
async fn create(shell: &Shell, app_id: &str) -> Result<Signer> {
    let app = shell.data(&["app", "create", app_id]).await?;
    let secret = app["secrets"][0]["secret"].as_str();
    Ok(Signer::new(
        app_id,
        secret.context("an app without a secret")?,
    ))
}

/// A token from one time to another, in seconds from now.
fn token_for(signer: &Signer, user: &str, iat: i64, exp: i64) -> String {
    let now = unix_seconds();
    signer.sign(&json!({"app": signer.app_id, "sub": user, "iat": now + iat, "exp": now + exp}))
}

/// A session of a user on each gateway.
async fn on_all_gateways(cluster: &Cluster, token: &str) -> Result<Vec<Connection>> {
    let mut sessions = Vec::new();
    for gateway in cluster.gateway_addresses() {
        // A gateway hears of a new app a moment after the command has answered.
        let session = until("the user logs in", SOON, async || {
            Connection::logged_in(&gateway, token).await
        });
        sessions.push(session.await?);
    }
    Ok(sessions)
}

/// Each is told why and then closed; says what each was told.
async fn all_end(sessions: &mut [Connection], error: &str, code: u16) -> Result<Vec<String>> {
    let mut told = Vec::new();
    for session in sessions {
        let message = loop {
            match session.next_within(SOON).await?.body {
                Some(Body::Error(said)) => {
                    ensure!(said.code().name() == error, "expected {error}, got {said}");
                    break said.message;
                }
                Some(_) => {}
                None => bail!("an empty frame"),
            }
        };
        let end = session.closed_within(SOON).await;
        ensure!(end.close_code() == Some(code), "expected {code}, got {end}");
        told.push(message);
    }
    Ok(told)
}

/// They are there and answered.
async fn all_live(sessions: &mut [Connection]) -> Result<()> {
    for session in sessions {
        session
            .ping()
            .await
            .context("a session that should live on")?;
    }
    Ok(())
}

/// Every gateway refuses the login, in both formats.
async fn is_refused(cluster: &Cluster, token: &str, error: &str, code: u16) -> Result<()> {
    for gateway in cluster.gateway_addresses() {
        for format in [Format::Protobuf, Format::Json] {
            let mut connection = Connection::open_with(&gateway, format).await?;
            let answer = connection.login(token).await;
            let got = answer.as_ref().err().and_then(CallError::code);
            ensure!(
                got.as_deref() == Some(error),
                "expected {error}, got {answer:?}"
            );
            let end = connection.closed_within(SOON).await;
            ensure!(end.close_code() == Some(code), "expected {code}, got {end}");
        }
    }
    Ok(())
}
