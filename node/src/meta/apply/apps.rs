//! Apps, their secrets, and who was thrown out of them.

use std::collections::BTreeMap;

use parlance_proto::common::v1::{AppLimits, TokenFormat};
use parlance_proto::ids::{AppAlias, AppId, UserId};
use parlance_proto::store::v1::{
    App, AppSecret, Kick, KickUser, MetaRefusal, app_change, meta_refusal::Reason,
};
use prost::Message;

use super::super::Kicks;
use super::{Change, refusal};
use crate::store::{Table, WriteBatch, key};

/// Apps of a cluster: each node and gateway has them in memory.
pub(in crate::meta) const APPS_MAX: usize = 10_000;
/// Secrets of an app and a format that are active at a time: the one in use, and the next.
pub(in crate::meta) const SECRETS_MAX: usize = 2;
/// Aliases of an app: one for each vendor, and some more.
pub(in crate::meta) const ALIASES_MAX: usize = 8;
/// Kicks of an app that are remembered: about 1 MiB in the memory of each node and gateway.
pub(super) const KICKS_OF_APP_MAX: usize = 10_000;
/// Kicks of all apps, one app's not crowding out another's: about 5 MiB, and 15 with the longest ids and reasons.
pub(in crate::meta) const KICKS_MAX: usize = 5 * KICKS_OF_APP_MAX;

type Apps = BTreeMap<String, App>;

pub(super) fn create(apps: &mut Apps, app: App, write: &mut WriteBatch) -> Change {
    if apps.contains_key(&app.app_id) {
        let message = format!("app {:?} exists already", app.app_id);
        return Err(refusal(Reason::Exists, message));
    }
    if let Some(of) = owner_of(apps, &app.app_id) {
        let message = format!("{:?} is an alias of app {of:?}", app.app_id);
        return Err(refusal(Reason::Exists, message));
    }
    if apps.len() >= APPS_MAX {
        let message = format!("the cluster has {APPS_MAX} apps, and no more are allowed");
        return Err(refusal(Reason::Forbidden, message));
    }
    put(apps, app, write)
}

pub(super) fn change(
    apps: &mut Apps,
    app_id: &str,
    changes: Vec<app_change::Change>,
    write: &mut WriteBatch,
) -> Change {
    let before = known(apps, app_id)?;
    let mut app = before.clone();
    for change in changes {
        match change {
            app_change::Change::AddSecret(secret) => add_secret(&mut app, secret)?,
            app_change::Change::RetireSecret(secret_id) => retire_secret(&mut app, &secret_id)?,
            app_change::Change::Disabled(disabled) => app.disabled = disabled,
            app_change::Change::TokenLifeMaxMs(life) => {
                // Tokens that were made before live on as long as they say.
                let ever = app.token_life_ever_ms.max(app.token_life_max_ms);
                (app.token_life_max_ms, app.token_life_ever_ms) = (life, ever.max(life));
            }
            app_change::Change::AddAlias(alias) => add_alias(apps, &mut app, alias)?,
            app_change::Change::RemoveAlias(alias) => remove_alias(&mut app, &alias)?,
            app_change::Change::Token04GcmOnly(only) => {
                app.token_policy.get_or_insert_default().token04_gcm_only = only;
            }
            app_change::Change::AlivcNoncePrefix(needed) => {
                app.token_policy.get_or_insert_default().alivc_nonce_prefix = needed;
            }
        }
    }
    if app == *before {
        return Ok(false);
    }
    put(apps, app, write)
}

pub(super) fn set_limits(
    apps: &mut Apps,
    app_id: &str,
    limits: Option<AppLimits>,
    write: &mut WriteBatch,
) -> Change {
    let before = known(apps, app_id)?;
    if before.limits == limits {
        return Ok(false);
    }
    let app = App {
        limits,
        ..before.clone()
    };
    put(apps, app, write)
}

fn add_secret(app: &mut App, secret: AppSecret) -> Result<(), MetaRefusal> {
    let format = |secret: &AppSecret| match secret.format() {
        TokenFormat::Unspecified => TokenFormat::Jwt,
        format => format,
    };
    let alike = || {
        let all = app.secrets.iter();
        all.filter(|known| format(known) == format(&secret))
    };
    if let Some(same) = alike().find(|known| known.secret == secret.secret) {
        let message = format!(
            "app {:?} has this secret already, as {}",
            app.app_id, same.secret_id
        );
        return Err(refusal(Reason::Exists, message));
    }
    if alike().count() >= SECRETS_MAX {
        let message = format!(
            "app {:?} has {SECRETS_MAX} secrets of this format, and no more are active at a time: retire one first",
            app.app_id
        );
        return Err(refusal(Reason::Forbidden, message));
    }
    app.secrets.push(secret);
    Ok(())
}

fn retire_secret(app: &mut App, secret_id: &str) -> Result<(), MetaRefusal> {
    let (app_id, before) = (&app.app_id, app.secrets.len());
    if !app.secrets.iter().any(|s| s.secret_id == secret_id) {
        let message = format!("app {app_id:?} has no secret {secret_id:?}");
        return Err(refusal(Reason::NotFound, message));
    }
    if before == 1 {
        let message = format!(
            "it is the only secret of app {app_id:?}: add another first, or disable the app"
        );
        return Err(refusal(Reason::Forbidden, message));
    }
    app.secrets.retain(|s| s.secret_id != secret_id);
    Ok(())
}

fn add_alias(apps: &Apps, app: &mut App, alias: String) -> Result<(), MetaRefusal> {
    AppAlias::new(&alias).map_err(|e| refusal(Reason::Forbidden, e.to_string()))?;
    if app.aliases.contains(&alias) {
        return Ok(());
    }
    if let Some(of) = owner_of(apps, &alias) {
        let message = format!("{alias:?} is a name of app {of:?}");
        return Err(refusal(Reason::Exists, message));
    }
    if app.aliases.len() >= ALIASES_MAX {
        let message = format!(
            "app {:?} has {ALIASES_MAX} aliases, and no more are allowed",
            app.app_id
        );
        return Err(refusal(Reason::Forbidden, message));
    }
    app.aliases.push(alias);
    Ok(())
}

fn remove_alias(app: &mut App, alias: &str) -> Result<(), MetaRefusal> {
    if !app.aliases.iter().any(|known| known == alias) {
        let message = format!("app {:?} has no alias {alias:?}", app.app_id);
        return Err(refusal(Reason::NotFound, message));
    }
    app.aliases.retain(|known| known != alias);
    Ok(())
}

/// The app that is called so.
fn owner_of<'a>(apps: &'a Apps, name: &str) -> Option<&'a str> {
    let called = |app: &&App| app.app_id == name || app.aliases.iter().any(|known| known == name);
    apps.values().find(called).map(|app| app.app_id.as_str())
}

pub(super) fn kick(
    apps: &Apps,
    kicks: &mut Kicks,
    command: KickUser,
    now_ms: i64,
    write: &mut WriteBatch,
) -> Change {
    let mut kick = command.kick.unwrap_or_default();
    let app = known(apps, &kick.app_id)?;
    let row = row_of(&kick)?;
    let of = user_of(&kick);
    match kicks.get(&of) {
        // A node whose clock is behind does not make old tokens good again, and each kick is another one to the gateways.
        Some(known) => {
            kick.kicked_ms = kick.kicked_ms.max(known.kicked_ms.saturating_add(1));
            if command.keeps_until && known.until_ms > kick.until_ms.max(now_ms) {
                kick.until_ms = known.until_ms;
                if kick.reason.is_empty() {
                    kick.reason.clone_from(&known.reason);
                }
            }
        }
        None => make_room(apps, app, kicks, now_ms, write)?,
    }
    write.put(Table::Meta, row, kick.encode_to_vec());
    kicks.insert(of, kick);
    Ok(true)
}

/// Makes room for one more of an app. Where it is full, lets go of the kicks that refuse nobody any more.
fn make_room(
    apps: &Apps,
    app: &App,
    kicks: &mut Kicks,
    now_ms: i64,
    write: &mut WriteBatch,
) -> Result<(), MetaRefusal> {
    let full = |kicks: &Kicks| match (of_app(kicks, &app.app_id), kicks.len()) {
        (KICKS_OF_APP_MAX.., _) => Some((KICKS_OF_APP_MAX, format!("app {:?}", app.app_id))),
        (_, KICKS_MAX..) => Some((KICKS_MAX, "all apps".to_owned())),
        _ => None,
    };
    if full(kicks).is_some() {
        forget(apps, kicks, now_ms, write);
    }
    let Some((kept, whose)) = full(kicks) else {
        return Ok(());
    };
    let message = format!(
        "{kept} kicks of {whose} are remembered, each for as long as old tokens live: shorten --token-life-max of an app, or retire its secret"
    );
    Err(refusal(Reason::Forbidden, message))
}

fn of_app(kicks: &Kicks, app_id: &str) -> usize {
    let all = kicks.range((app_id.to_owned(), String::new())..);
    all.take_while(|((app, _), _)| app == app_id).count()
}

/// Lets go of the kicks that refuse nobody any more.
fn forget(apps: &Apps, kicks: &mut Kicks, now_ms: i64, write: &mut WriteBatch) {
    let over = |kick: &Kick| {
        let life = apps
            .get(&kick.app_id)
            .map_or(0, |app| app.token_life_ever_ms.max(app.token_life_max_ms));
        let life = i64::try_from(life).unwrap_or(i64::MAX);
        kick.kicked_ms.saturating_add(life).max(kick.until_ms) < now_ms
    };
    kicks.retain(|_, kick| {
        let over = over(kick);
        if over && let Ok(row) = row_of(kick) {
            write.delete(Table::Meta, row);
        }
        !over
    });
}

/// Whose kick it is.
pub(super) fn user_of(kick: &Kick) -> (String, String) {
    (kick.app_id.clone(), kick.user_id.clone())
}

fn row_of(kick: &Kick) -> Result<Vec<u8>, MetaRefusal> {
    let bad = |e: parlance_proto::ids::IdError| refusal(Reason::Forbidden, e.to_string());
    let app = AppId::new(&kick.app_id).map_err(bad)?;
    let user = UserId::new(&kick.user_id).map_err(bad)?;
    Ok(key::kick(&app, &user))
}

fn known<'a>(apps: &'a Apps, app_id: &str) -> Result<&'a App, MetaRefusal> {
    let missing = || refusal(Reason::NotFound, format!("there is no app {app_id:?}"));
    apps.get(app_id).ok_or_else(missing)
}

fn put(apps: &mut Apps, app: App, write: &mut WriteBatch) -> Change {
    let id = AppId::new(&app.app_id).map_err(|e| refusal(Reason::Forbidden, e.to_string()))?;
    write.put(Table::Meta, key::app(&id), app.encode_to_vec());
    apps.insert(app.app_id.clone(), app);
    Ok(true)
}
