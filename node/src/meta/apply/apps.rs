//! Apps, their secrets, and who was thrown out of them.

use std::collections::BTreeMap;

use parlance_proto::common::v1::AppLimits;
use parlance_proto::ids::{AppId, UserId};
use parlance_proto::store::v1::{
    App, AppSecret, Kick, MetaRefusal, change_app, meta_refusal::Reason,
};
use prost::Message;

use super::super::Kicks;
use super::{Change, refusal};
use crate::store::{Table, WriteBatch, key};

/// Secrets of an app that are active at a time: the one in use, and the next.
const SECRETS_MAX: usize = 2;
/// Kicks that are remembered, of all apps: about 1 MiB in the memory of each node and gateway.
pub(super) const KICKS_MAX: usize = 10_000;

type Apps = BTreeMap<String, App>;

pub(super) fn create(apps: &mut Apps, app: App, write: &mut WriteBatch) -> Change {
    if apps.contains_key(&app.app_id) {
        let message = format!("app {:?} exists already", app.app_id);
        return Err(refusal(Reason::Exists, message));
    }
    put(apps, app, write)
}

pub(super) fn change(
    apps: &mut Apps,
    app_id: &str,
    change: change_app::Change,
    write: &mut WriteBatch,
) -> Change {
    let before = known(apps, app_id)?;
    let mut app = before.clone();
    match change {
        change_app::Change::AddSecret(secret) => add_secret(&mut app, secret)?,
        change_app::Change::RetireSecret(secret_id) => retire_secret(&mut app, &secret_id)?,
        change_app::Change::Disabled(disabled) => app.disabled = disabled,
        change_app::Change::TokenLifeMaxMs(life) => app.token_life_max_ms = life,
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
    if app.secrets.len() >= SECRETS_MAX {
        let message = format!(
            "app {:?} has {SECRETS_MAX} secrets, and no more are active at a time: retire one first",
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

pub(super) fn kick(
    apps: &Apps,
    kicks: &mut Kicks,
    mut kick: Kick,
    now_ms: i64,
    write: &mut WriteBatch,
) -> Change {
    known(apps, &kick.app_id)?;
    let row = row_of(&kick)?;
    let of = user_of(&kick);
    match kicks.get(&of) {
        // A node whose clock is behind does not make old tokens good again.
        Some(known) => kick.kicked_ms = kick.kicked_ms.max(known.kicked_ms),
        None if kicks.len() >= KICKS_MAX => forget(apps, kicks, now_ms, write)?,
        None => {}
    }
    write.put(Table::Meta, row, kick.encode_to_vec());
    kicks.insert(of, kick);
    Ok(true)
}

/// Makes room: lets go of the kicks that refuse nobody any more.
fn forget(
    apps: &Apps,
    kicks: &mut Kicks,
    now_ms: i64,
    write: &mut WriteBatch,
) -> Result<(), MetaRefusal> {
    let over = |kick: &Kick| {
        let life = apps
            .get(&kick.app_id)
            .map_or(0, |app| app.token_life_max_ms);
        let life = i64::try_from(life).unwrap_or(i64::MAX);
        kick.kicked_ms.saturating_add(life).max(kick.until_ms) < now_ms
    };
    let before = kicks.len();
    kicks.retain(|_, kick| {
        let over = over(kick);
        if over && let Ok(row) = row_of(kick) {
            write.delete(Table::Meta, row);
        }
        !over
    });
    if kicks.len() == before {
        let message = format!(
            "{KICKS_MAX} kicks are remembered, each for as long as old tokens live: shorten --token-life-max of an app, or retire its secret"
        );
        return Err(refusal(Reason::Forbidden, message));
    }
    Ok(())
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
