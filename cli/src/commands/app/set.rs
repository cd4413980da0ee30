//! `parlance app set`, `parlance app disable` and `parlance app enable`.

use std::time::Duration;

use anyhow::Context;
use parlance_proto::admin::v1::ChangeAppRequest;
use parlance_proto::ids::AppId;

use super::AppView;
use crate::admin::Admin;
use crate::args::AppSettingsArgs;
use crate::commands::Session;
use crate::output::{confirm, duration_text};

pub(super) async fn settings(
    session: &Session,
    app_id: AppId,
    ask: AppSettingsArgs,
) -> anyhow::Result<()> {
    let change = ChangeAppRequest {
        app_id: (&app_id).into(),
        token_life_max_ms: ask.token_life_max.map(millis),
        token04_gcm_only: ask.token04_gcm_only,
        alivc_nonce_prefix: ask.alivc_nonce_prefix,
        ..ChangeAppRequest::default()
    };
    let app = change_app(session, change).await?;
    session.output.print(&app, |_, app| {
        let life = duration_text(Duration::from_millis(app.token_life_max_ms));
        let mut text = format!("a token of app {} may live {life}", app.app_id);
        if app.token04_gcm_only {
            text.push_str("; of Token04 only the form that uses AES-GCM is taken");
        }
        if app.alivc_nonce_prefix {
            text.push_str("; of alivc tokens only those with a nonce that begins with AK-");
        }
        text
    })
}

pub(super) async fn disabled(
    session: &Session,
    app_id: AppId,
    disabled: bool,
    yes: bool,
) -> anyhow::Result<()> {
    if disabled {
        confirm(&format!("end all sessions of app {app_id:?}"), yes)?;
    }
    let change = ChangeAppRequest {
        app_id: (&app_id).into(),
        disabled: Some(disabled),
        ..ChangeAppRequest::default()
    };
    let app = change_app(session, change).await?;
    session.output.print(&app, |_, app| {
        format!("app {} is {}", app.app_id, app.state())
    })
}

pub(super) async fn change_app(
    session: &Session,
    change: ChangeAppRequest,
) -> anyhow::Result<AppView> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let what = format!("change app {:?}", change.app_id);
    let answer = admin.api.change_app(change).await;
    let app = answer
        .map_err(|status| admin.failed(&what, &status))?
        .into_inner()
        .app
        .with_context(|| format!("{what}: the node answered without it"))?;
    Ok(AppView {
        secrets: Vec::new(),
        ..app.into()
    })
}

/// As the protocol has it; a time beyond its range is out of every bound, too.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
