//! Apps: tenants with secrets that sign tokens.

use parlance_proto::admin::v1 as admin;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::AppId;
use parlance_proto::store::v1::{App, AppSecret, CreateApp, meta_command};

use crate::cluster::Runtime;

/// Bytes of an app's free name.
const NAME_BYTES_MAX: usize = 128;

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
    let environment = runtime.environment();
    let created_ms = environment.now_ms();
    let secret = AppSecret {
        secret_id: environment.random_id(),
        secret: environment.random().to_vec().into(),
        created_ms,
    };
    let app = App {
        app_id: ask.app_id,
        name: ask.name,
        secrets: vec![secret],
        disabled: false,
        created_ms,
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

/// All apps, without secrets.
pub(super) fn list(runtime: &Runtime) -> Vec<admin::App> {
    let state = runtime.view().state();
    let apps = state.apps().values();
    apps.map(|app| shown(app, false)).collect()
}

/// One app with its secrets.
pub(super) fn get(runtime: &Runtime, app_id: &str) -> Result<admin::App, Error> {
    let state = runtime.view().state();
    let app = state.apps().get(app_id);
    app.map(|app| shown(app, true))
        .ok_or_else(|| Error::new(ErrorCode::NotFound, format!("there is no app {app_id:?}")))
}

fn shown(app: &App, with_secrets: bool) -> admin::App {
    let secret = |s: &AppSecret| admin::AppSecret {
        secret_id: s.secret_id.clone(),
        secret_hex: hex::encode(&s.secret),
    };
    admin::App {
        app_id: app.app_id.clone(),
        name: app.name.clone(),
        disabled: app.disabled,
        created_ms: app.created_ms,
        secrets: app
            .secrets
            .iter()
            .filter(|_| with_secrets)
            .map(secret)
            .collect(),
    }
}
