//! `parlance app create`.

use std::time::Duration;

use anyhow::Context;
use parlance_proto::admin::v1::CreateAppRequest;
use parlance_proto::common::v1::AppLimits;
use parlance_proto::ids::AppId;

use super::{AppView, changed, secret, set};
use crate::admin::Admin;
use crate::args::LimitArgs;
use crate::commands::Session;
use crate::output::say;

pub(super) async fn run(
    session: &Session,
    app_id: AppId,
    name: String,
    token_life_max: Duration,
    limits: &LimitArgs,
) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let what = format!("create app {app_id:?}");
    let request = CreateAppRequest {
        app_id: (&app_id).into(),
        name,
        token_life_max_ms: set::millis(token_life_max),
        limits: Some(changed(limits, AppLimits::default())),
    };
    let answer = admin
        .api
        .create_app(request)
        .await
        .map_err(|status| admin.failed(&what, &status))?;
    let app: AppView = answer
        .into_inner()
        .app
        .context("create app: the node answered without it")?
        .into();
    say(
        "this secret signs the tokens of the app's users (HS256, the text as it is): give it to the app's own server and to nobody else",
    );
    session.output.print(&app, |output, app| {
        secret::table(output, &app.app_id, &app.secrets)
    })
}
