//! Vendors' token formats: an app takes those for which it has a secret, under the names that the vendors give it, on every
//! gateway, from the command on until it is taken back.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use parlance_client::LoginOptions;
use parlance_proto::client::v1::RenewRequest;
use parlance_proto::ids::{AppAlias, UserId};
use parlance_tests::cli::{NOT_POSSIBLE, Shell};
use parlance_tests::client::{CallError, Connection};
use parlance_tests::cluster::Cluster;
use parlance_tests::wait::until;
use serde_json::Value;

use crate::{SOON, TOKEN_REFUSED, all_end};

const APP: &str = "mall";
/// What two vendors call the app, and a third one does.
const NUMBER: &str = "1400000000";
const NAME: &str = "Mall_App";
const FORMATS: [&str; 3] = ["usersig", "token04", "alivc"];
/// What the app's own server has already.
const OWN_SECRET: &str = "fa94dd0f974cf2e293728a526b028271";

pub(crate) async fn vendors_tokens_log_in(cluster: &Cluster, shell: &Shell) -> Result<()> {
    shell.data(&["app", "create", APP]).await?;
    let early = shell.run(&issue("usersig", &[])).await?;
    ensure!(
        early.code == NOT_POSSIBLE
            && early
                .stderr
                .contains("app secret add mall --format usersig"),
        "{early:?}"
    );

    let home = tempfile::tempdir()?;
    let file = home.path().join("secret");
    std::fs::write(&file, format!("{OWN_SECRET}\n"))?;
    let file = file.to_str().context("a path that is no text")?;
    for format in FORMATS {
        let add = ["app", "secret", "add", APP, "--format", format];
        let given = [add.as_slice(), &["--secret-file", file]].concat();
        let added = shell.data(&given).await?;
        let added = &added["secrets"][0];
        ensure!(
            added["format"] == format && added["secret"].is_null(),
            "a given secret is shown: {added}"
        );
    }
    for alias in [NUMBER, NAME] {
        shell.data(&["app", "alias", "add", APP, alias]).await?;
    }
    let taken = shell.run(&["app", "alias", "add", "shop", NUMBER]).await?;
    ensure!(
        taken.code == NOT_POSSIBLE && taken.stderr.contains("name of app"),
        "{taken:?}"
    );

    for format in FORMATS {
        let more: &[&str] = match format {
            "alivc" => &["--alias", NAME, "--admin"],
            _ => &[],
        };
        let issued = shell.data(&issue(format, more)).await?;
        for gateway in cluster.gateway_addresses() {
            let said = until("the user logs in", SOON, async || {
                let mut connection = Connection::open(&gateway).await?;
                Ok(connection.request(login(&issued)?).await?)
            });
            let said = said.await?;
            ensure!(
                (said.app_id.as_str(), said.user_id.as_str()) == (APP, "alice"),
                "{format}: {said:?}"
            );
        }
    }
    sessions_are_renewed_by_the_name_they_came_with(cluster, shell).await?;
    a_format_that_is_given_up_ends(cluster, shell).await?;
    a_name_that_is_taken_away_is_nobodys(cluster, shell).await
}

async fn sessions_are_renewed_by_the_name_they_came_with(
    cluster: &Cluster,
    shell: &Shell,
) -> Result<()> {
    for format in FORMATS {
        let more: &[&str] = match format {
            "alivc" => &["--alias", NAME],
            _ => &[],
        };
        let first = shell.data(&issue(format, more)).await?;
        let longer = [more, &["--ttl", "48h"]].concat();
        let next = login(&shell.data(&issue(format, &longer)).await?)?;
        for gateway in cluster.gateway_addresses() {
            let mut connection = Connection::open(&gateway).await?;
            let before = connection.request(login(&first)?).await?;
            let renew = RenewRequest {
                token: next.token.clone(),
                extra: next.extra.clone(),
            };
            let after = connection.request(renew).await?;
            ensure!(
                after.token_expires_ms > before.token_expires_ms,
                "{format}: {before:?} {after:?}"
            );
        }
    }
    Ok(())
}

/// Another app may have it then.
async fn a_name_that_is_taken_away_is_nobodys(cluster: &Cluster, shell: &Shell) -> Result<()> {
    let issued = shell.data(&issue("usersig", &[])).await?;
    shell.data(&["app", "alias", "remove", APP, NUMBER]).await?;
    for gateway in cluster.gateway_addresses() {
        let refused = until("the name is not known any more", SOON, async || {
            let mut connection = Connection::open(&gateway).await?;
            let refused = connection.request(login(&issued)?).await;
            let code = refused.as_ref().err().and_then(CallError::code);
            ensure!(code.as_deref() == Some("app_unknown"), "{refused:?}");
            Ok(())
        });
        refused.await?;
    }
    shell.data(&["app", "alias", "add", "shop", NUMBER]).await?;
    Ok(())
}

/// The sessions of its tokens end, and nobody comes in by it any more.
async fn a_format_that_is_given_up_ends(cluster: &Cluster, shell: &Shell) -> Result<()> {
    let issued = shell.data(&issue("token04", &[])).await?;
    let mut sessions = Vec::new();
    for gateway in cluster.gateway_addresses() {
        let mut connection = Connection::open(&gateway).await?;
        connection.request(login(&issued)?).await?;
        sessions.push(connection);
    }
    let secrets = shell.data(&["app", "secret", "list", APP]).await?;
    let secrets = secrets["secrets"].as_array().context("no secrets")?;
    let of_format = secrets.iter().find(|s| s["format"] == "token04");
    let id = of_format.and_then(|s| s["secret_id"].as_str());
    let id = id.context("no secret of token04")?;
    let retire = ["app", "secret", "retire", APP, id, "--yes"];
    shell.data(&retire).await?;
    all_end(&mut sessions, "token_invalid", TOKEN_REFUSED).await?;
    for gateway in cluster.gateway_addresses() {
        let mut connection = Connection::open(&gateway).await?;
        let refused = connection.request(login(&issued)?).await;
        let code = refused.as_ref().err().and_then(CallError::code);
        ensure!(code.as_deref() == Some("token_invalid"), "{refused:?}");
    }
    Ok(())
}

fn issue<'a>(format: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let issue = ["token", "issue", "--app", APP, "--user", "alice"];
    [issue.as_slice(), &["--format", format], more].concat()
}

/// As a client shows what `parlance token issue` says.
fn login(issued: &Value) -> Result<parlance_proto::client::v1::LoginRequest> {
    let text = |name: &str| issued[name].as_str().context("not issued whole");
    let extra = issued["extra"].as_object().into_iter().flatten();
    let extra = extra.map(|(name, value)| {
        let value = value.as_str().context("no text")?;
        Ok((name.clone(), value.to_owned()))
    });
    let options = LoginOptions {
        app_id: Some(AppAlias::new(text("app_id")?)?),
        user_id: Some(UserId::new(text("user_id")?)?),
        extra: extra.collect::<Result<HashMap<_, _>>>()?,
        ..LoginOptions::default()
    };
    Ok(options.request(text("token")?))
}
