//! Apps: tenants with secrets that sign tokens.

use std::ops::RangeInclusive;

use parlance_proto::admin::v1 as admin;
use parlance_proto::common::v1::{AppLimits, Error, ErrorCode};
use parlance_proto::ids::AppId;
use parlance_proto::limits::MESSAGES_PER_SECOND_MAX;
use parlance_proto::store::v1::{
    App, AppChange, AppSecret, ChangeApp, CreateApp, SetAppLimits, app_change::Change, meta_command,
};

use crate::cluster::Runtime;

/// Bytes of an app's free name.
const NAME_BYTES_MAX: usize = 128;
/// How long a token may live when nobody says.
const TOKEN_LIFE_MS: u64 = 30 * 24 * 3_600_000;
/// What an operator may set: a minute to a year.
const TOKEN_LIFE_RANGE_MS: RangeInclusive<u64> = 60_000..=366 * 24 * 3_600_000;
/// Tells a secret from a text in hex or base64, which people would decode before they sign with it.
const SECRET_PREFIX: &str = "psk_";
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
    let secret = new_secret(runtime);
    let app = App {
        app_id: ask.app_id,
        name: ask.name,
        created_ms: secret.created_ms,
        secrets: vec![secret],
        disabled: false,
        token_life_max_ms,
        limits: ask.limits,
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
    let changes = [
        life.map(Change::TokenLifeMaxMs),
        ask.disabled.map(Change::Disabled),
    ];
    propose(runtime, &ask.app_id, changes.into_iter().flatten()).await?;
    get(runtime, &ask.app_id, false)
}

/// Makes a secret beside the one in use.
pub(super) async fn add_secret(runtime: &Runtime, app_id: &str) -> Result<admin::AppSecret, Error> {
    let secret = new_secret(runtime);
    propose(runtime, app_id, [Change::AddSecret(secret.clone())]).await?;
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

/// All apps, without secrets.
pub(super) fn list(runtime: &Runtime) -> Vec<admin::App> {
    let state = runtime.view().state();
    let apps = state.apps().values();
    apps.map(|app| admin::App {
        secrets: Vec::new(),
        ..shown(app, false)
    })
    .collect()
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

fn new_secret(runtime: &Runtime) -> AppSecret {
    let environment = runtime.environment();
    let id = environment.random_id();
    AppSecret {
        secret_id: id.chars().take(SECRET_ID_CHARS).collect(),
        secret: format!("{SECRET_PREFIX}{}", hex::encode(environment.random())),
        created_ms: environment.now_ms(),
    }
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
    }
}
