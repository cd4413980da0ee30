//! `parlance app create`.

use anyhow::Context;
use parlance_proto::admin::v1::CreateAppRequest;
use parlance_proto::ids::AppId;

use super::AppView;
use crate::admin::Admin;
use crate::commands::Session;
use crate::output::say;

pub(super) async fn run(session: &Session, app_id: AppId, name: String) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let what = format!("create app {app_id:?}");
    let app_id = String::from(&app_id);
    let request = CreateAppRequest { app_id, name };
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
        "this secret signs the tokens of the app's users: give it to the app's own server and to nobody else",
    );
    session.output.print(&app, |output, app| {
        let mut table = output.table(&["APP", "SECRET ID", "SECRET (HEX)"]);
        for secret in &app.secrets {
            table.add_row([&app.app_id, &secret.secret_id, &secret.secret_hex]);
        }
        table.to_string()
    })
}
