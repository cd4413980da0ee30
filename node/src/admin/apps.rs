//! Apps: tenants with secrets that sign tokens.

use std::ops::{Bound, RangeInclusive};

use parlance_proto::admin::v1 as admin;
use parlance_proto::common::v1::{AppLimits, Error, ErrorCode, TokenFormat};
use parlance_proto::ids::{AppAlias, AppId};
use parlance_proto::limits::MESSAGES_PER_SECOND_MAX;
use parlance_proto::store::v1::{
    App, AppChange, AppSecret, ChangeApp, CreateApp, SetAppLimits, app_change::Change, meta_command,
};

use crate::cluster::Runtime;

/// Bytes of an app's free name.
const NAME_BYTES_MAX: usize = 128;
/// Apps on one page: about 1 MiB at most, of the 4 that an answer may have.
const APPS_PAGE: usize = 1000;
/// How long a token may live when nobody says.
const TOKEN_LIFE_MS: u64 = 30 * 24 * 3_600_000;
/// What an operator may set: a minute to a year.
const TOKEN_LIFE_RANGE_MS: RangeInclusive<u64> = 60_000..=366 * 24 * 3_600_000;
/// Tells a secret from a text in hex or base64, which people would decode before they sign with it.
const SECRET_PREFIX: &str = "psk_";
/// Bytes of a secret that an app's server has already.
const SECRET_BYTES: RangeInclusive<usize> = 16..=256;
/// Bytes of a secret of Token04: an AES-256 key.
const TOKEN04_SECRET_BYTES: usize = 32;
/// Enough to tell an app's two secrets apart, and short enough to be typed.
const SECRET_ID_CHARS: usize = 8;

/// Makes an app with a fresh secret.
pub(super) async fn create(
    runtime: &Runtime,
    ask: admin::CreateAppRequest,
) -> Result<admin::App, Error> {
    AppId::new(&ask.app_id).map_err(|e| Error::invalid("app_id", e.to_string()))?;
    if ask.name.len() > NAME_BYTES_MAX {
        let message = format!(
            "the name has {} bytes, at most {NAME_BYTES_MAX} are allowed",
            ask.name.len()
        );
        return Err(Error::invalid("name", message));
    }
    check_limits(ask.limits.as_ref())?;
    let token_life_max_ms = match ask.token_life_max_ms {
        0 => TOKEN_LIFE_MS,
        life => token_life(life)?,
    };
    let secret = new_secret(runtime, TokenFormat::Jwt);
    let app = App {
        app_id: ask.app_id,
        name: ask.name,
        created_ms: secret.created_ms,
        secrets: vec![secret],
        disabled: false,
        token_life_max_ms,
        limits: ask.limits,
        aliases: Vec::new(),
        token_policy: None,
        token_life_ever_ms: token_life_max_ms,
    };
    let create = CreateApp {
        app: Some(app.clone()),
    };
    runtime
        .meta_client()
        .propose(meta_command::Body::CreateApp(create))
        .await?;
    Ok(shown(&app, true))
}

/// Changes what is given, all of it or nothing, and answers the app as it is then.
pub(super) async fn change(
    runtime: &Runtime,
    ask: admin::ChangeAppRequest,
) -> Result<admin::App, Error> {
    let life = ask.token_life_max_ms.map(token_life).transpose()?;
    for alias in &ask.add_aliases {
        AppAlias::new(alias).map_err(|e| Error::invalid("add_aliases", e.to_string()))?;
    }
    let changes = [
        life.map(Change::TokenLifeMaxMs),
        ask.disabled.map(Change::Disabled),
        ask.token04_gcm_only.map(Change::Token04GcmOnly),
        ask.alivc_nonce_prefix.map(Change::AlivcNoncePrefix),
    ];
    let removed = ask.remove_aliases.into_iter().map(Change::RemoveAlias);
    let added = ask.add_aliases.into_iter().map(Change::AddAlias);
    let changes = changes.into_iter().flatten().chain(removed).chain(added);
    propose(runtime, &ask.app_id, changes).await?;
    get(runtime, &ask.app_id, false)
}

/// Puts a secret beside the one in use: the given one, or a new one.
pub(super) async fn add_secret(
    runtime: &Runtime,
    ask: admin::AddAppSecretRequest,
) -> Result<admin::AppSecret, Error> {
    let format = match TokenFormat::try_from(ask.format) {
        Ok(TokenFormat::Unspecified) => TokenFormat::Jwt,
        Ok(format) => format,
        Err(_) => {
            let message = format!("this node knows no token format {}", ask.format);
            return Err(Error::invalid("format", message));
        }
    };
    let mut secret = new_secret(runtime, format);
    if !ask.secret.is_empty() {
        check_secret(format, &ask.secret)?;
        secret.secret = ask.secret;
    }
    propose(runtime, &ask.app_id, [Change::AddSecret(secret.clone())]).await?;
    Ok(shown_secret(&secret, true))
}

/// Ends a secret.
pub(super) async fn retire_secret(
    runtime: &Runtime,
    ask: admin::RetireAppSecretRequest,
) -> Result<(), Error> {
    propose(runtime, &ask.app_id, [Change::RetireSecret(ask.secret_id)]).await
}

/// Says what an app's users may do at most, in the place of what was said before.
pub(super) async fn set_limits(
    runtime: &Runtime,
    ask: admin::SetAppLimitsRequest,
) -> Result<(), Error> {
    check_limits(ask.limits.as_ref())?;
    let set = SetAppLimits {
        app_id: ask.app_id,
        limits: ask.limits,
    };
    let set = meta_command::Body::SetAppLimits(set);
    runtime.meta_client().propose(set).await?;
    Ok(())
}

fn check_limits(limits: Option<&AppLimits>) -> Result<(), Error> {
    let Some(limits) = limits else { return Ok(()) };
    for (field, value) in [
        (
            "session_messages_per_second",
            limits.session_messages_per_second,
        ),
        ("user_messages_per_second", limits.user_messages_per_second),
        ("app_messages_per_second", limits.app_messages_per_second),
    ] {
        if value > MESSAGES_PER_SECOND_MAX {
            let rule = format!("{value} is above {MESSAGES_PER_SECOND_MAX}");
            return Err(Error::invalid(&format!("limits.{field}"), rule));
        }
    }
    Ok(())
}

/// A page of all apps, without secrets.
pub(super) fn list(runtime: &Runtime, after: &str) -> admin::ListAppsResponse {
    let state = runtime.view().state();
    let behind = (Bound::Excluded(after), Bound::Unbounded);
    let mut apps = state.apps().range::<str, _>(behind);
    let page = apps.by_ref().take(APPS_PAGE).map(|(_, app)| admin::App {
        secrets: Vec::new(),
        ..shown(app, false)
    });
    admin::ListAppsResponse {
        apps: page.collect(),
        more: apps.next().is_some(),
    }
}

/// One app; its secrets' texts only if they are wanted.
pub(super) fn get(
    runtime: &Runtime,
    app_id: &str,
    with_secrets: bool,
) -> Result<admin::App, Error> {
    let state = runtime.view().state();
    let app = state.apps().get(app_id);
    app.map(|app| shown(app, with_secrets))
        .ok_or_else(|| Error::new(ErrorCode::NotFound, format!("there is no app {app_id:?}")))
}

async fn propose(
    runtime: &Runtime,
    app_id: &str,
    changes: impl IntoIterator<Item = Change>,
) -> Result<(), Error> {
    let changes = changes.into_iter().map(|change| AppChange {
        change: Some(change),
    });
    let change = ChangeApp {
        app_id: app_id.to_owned(),
        changes: changes.collect(),
    };
    let body = meta_command::Body::ChangeApp(change);
    runtime.meta_client().propose(body).await.map(drop)
}

fn token_life(life_ms: u64) -> Result<u64, Error> {
    if TOKEN_LIFE_RANGE_MS.contains(&life_ms) {
        return Ok(life_ms);
    }
    let message = format!("{life_ms} ms: a token may live for a minute to a year");
    Err(Error::invalid("token_life_max_ms", message))
}

/// Vendors' secrets look as the vendors' own do.
fn new_secret(runtime: &Runtime, format: TokenFormat) -> AppSecret {
    let environment = runtime.environment();
    let id = environment.random_id();
    let secret = match format {
        TokenFormat::Unspecified | TokenFormat::Jwt => {
            format!("{SECRET_PREFIX}{}", hex::encode(environment.random()))
        }
        TokenFormat::Usersig => hex::encode(environment.random()),
        TokenFormat::Token04 | TokenFormat::Alivc => environment.random_id(),
    };
    AppSecret {
        secret_id: id.chars().take(SECRET_ID_CHARS).collect(),
        secret,
        created_ms: environment.now_ms(),
        format: format.into(),
    }
}

fn check_secret(format: TokenFormat, secret: &str) -> Result<(), Error> {
    let bytes = secret.len();
    let rule = if !secret.bytes().all(|b| b.is_ascii_graphic()) {
        "has other characters than printable ones of ASCII".to_owned()
    } else if format == TokenFormat::Token04 && bytes != TOKEN04_SECRET_BYTES {
        format!("has {bytes} characters, a secret of Token04 has {TOKEN04_SECRET_BYTES}")
    } else if !SECRET_BYTES.contains(&bytes) {
        let (min, max) = SECRET_BYTES.into_inner();
        format!("has {bytes} characters, {min} to {max} are allowed")
    } else {
        return Ok(());
    };
    Err(Error::invalid("secret", format!("the secret {rule}")))
}

fn shown(app: &App, with_secrets: bool) -> admin::App {
    let secrets = app.secrets.iter();
    admin::App {
        app_id: app.app_id.clone(),
        name: app.name.clone(),
        disabled: app.disabled,
        created_ms: app.created_ms,
        limits: app.limits,
        secrets: secrets.map(|s| shown_secret(s, with_secrets)).collect(),
        token_life_max_ms: app.token_life_max_ms,
        aliases: app.aliases.clone(),
        token_policy: app.token_policy,
    }
}

fn shown_secret(secret: &AppSecret, with_text: bool) -> admin::AppSecret {
    admin::AppSecret {
        secret_id: secret.secret_id.clone(),
        secret: if with_text {
            secret.secret.clone()
        } else {
            String::new()
        },
        created_ms: secret.created_ms,
        format: secret.format,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_secret_cannot_be_guessed_and_suits_its_format() {
        let check = |format, secret: &str| check_secret(format, secret).map_err(|e| e.message);
        assert!(check(TokenFormat::Usersig, &"5".repeat(64)).is_ok());
        assert!(check(TokenFormat::Token04, &"f".repeat(32)).is_ok());
        for (format, secret, why) in [
            (
                TokenFormat::Token04,
                "f".repeat(16),
                "a secret of Token04 has 32",
            ),
            (TokenFormat::Alivc, "short".into(), "16 to 256 are allowed"),
            (TokenFormat::Jwt, "x".repeat(257), "16 to 256 are allowed"),
            (TokenFormat::Jwt, "sixteen bytes and\n".into(), "printable"),
        ] {
            let error = check(format, &secret).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
