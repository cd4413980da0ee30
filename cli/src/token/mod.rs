//! Makes the tokens that users log in with, in every format that gateways take. One file a format.

mod alivc;
mod jwt;
mod token04;
mod usersig;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use parlance_proto::common::v1::TokenFormat;
use parlance_proto::ids::{AppId, UserId};
use serde::Serialize;

use crate::exit::NotPossible;

/// The role of admins, in every format that has roles.
const ADMIN: &str = "admin";

/// Whom a token is for. Times are in seconds since 1970 UTC.
struct Wanted<'a> {
    /// As the token calls it: its id, or an alias.
    app: &'a str,
    user: &'a UserId,
    admin: bool,
    issued: u64,
    expires: u64,
}

/// A token, and what a client has to show with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// What the client says as its app.
    pub app_id: String,
    /// What the client says as its user.
    pub user_id: String,
    /// ms since 1970 UTC.
    pub expires_ms: u64,
    /// What else the client says at the login.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<&'static str, String>,
}

/// A JWT that is good from now on.
pub fn issue(app: &AppId, user: &UserId, secret: &str, ttl: Duration) -> anyhow::Result<String> {
    let issued = issue_as(TokenFormat::Jwt, app.as_str(), user, false, secret, ttl)?;
    Ok(issued.token)
}

/// A token of any format that is good from now on; the app is named as the token is to name it.
#[allow(
    clippy::disallowed_methods,
    reason = "a token is valid from now on by the machine's clock"
)]
pub fn issue_as(
    format: TokenFormat,
    app: &str,
    user: &UserId,
    admin: bool,
    secret: &str,
    ttl: Duration,
) -> anyhow::Result<Issued> {
    let issued = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("read the clock: it is before 1970")?
        .as_secs();
    let wanted = Wanted {
        app,
        user,
        admin,
        issued,
        expires: issued.saturating_add(ttl.as_secs()),
    };
    let mut extra = BTreeMap::new();
    let token = match format {
        TokenFormat::Unspecified | TokenFormat::Jwt => jwt::sign(&wanted, secret)?,
        TokenFormat::Usersig | TokenFormat::Token04 if admin => {
            let message = "tokens of this format have no role: only those of jwt and alivc do";
            return Err(NotPossible(message.to_owned()).into());
        }
        TokenFormat::Usersig => usersig::sign(&wanted, secret)?,
        TokenFormat::Token04 => token04::sign(&wanted, secret)?,
        TokenFormat::Alivc => {
            let (token, nonce) = alivc::sign(&wanted, secret)?;
            extra.insert("nonce", nonce);
            extra.insert("timestamp", wanted.expires.to_string());
            if admin {
                extra.insert("role", ADMIN.to_owned());
            }
            token
        }
    };
    Ok(Issued {
        token,
        app_id: app.to_owned(),
        user_id: user.into(),
        expires_ms: wanted.expires.saturating_mul(1000),
        extra,
    })
}

/// Whether the format calls apps by a number.
pub fn numbers_apps(format: TokenFormat) -> bool {
    matches!(format, TokenFormat::Usersig | TokenFormat::Token04)
}

/// Whether a name is a number, and written as tokens write it.
pub fn is_number(app: &str) -> bool {
    app.parse::<u64>()
        .is_ok_and(|number| number.to_string() == app)
}

fn number(app: &str) -> anyhow::Result<u64> {
    let number = app.parse().ok().filter(|_| is_number(app));
    number.ok_or_else(|| {
        let message = format!(
            "tokens of this format call an app by a number, and {app:?} is none: say --alias, or give the app such an alias"
        );
        NotPossible(message).into()
    })
}

/// The secret in a file: its text without the line end.
pub fn secret_of_file(text: &str) -> anyhow::Result<String> {
    let secret = text.trim();
    if secret.is_empty() {
        return Err(NotPossible("the secret is empty".to_owned()).into());
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[test]
    fn only_formats_with_roles_make_admins() {
        let user = UserId::new("alice").unwrap();
        let secret = "fa94dd0f974cf2e293728a526b028271";
        let made = |format| issue_as(format, "1400000000", &user, true, secret, TTL);
        for format in [TokenFormat::Usersig, TokenFormat::Token04] {
            let refused = made(format).unwrap_err();
            assert!(refused.to_string().contains("no role"), "{refused}");
        }
        assert_eq!(made(TokenFormat::Alivc).unwrap().extra["role"], "admin");
        assert!(made(TokenFormat::Jwt).is_ok());
    }

    #[test]
    fn a_format_that_numbers_apps_says_what_it_needs() {
        let user = UserId::new("alice").unwrap();
        for app in ["demo", "007"] {
            let refused = issue_as(TokenFormat::Usersig, app, &user, false, "secret", TTL);
            assert!(refused.unwrap_err().to_string().contains("--alias"));
        }
    }

    #[test]
    fn a_secret_is_not_empty() {
        assert!(secret_of_file(" \n").is_err());
    }
}
