//! `parlance app list`.

use std::time::Duration;

use parlance_proto::admin::v1::ListAppsRequest;
use serde::Serialize;

use super::AppView;
use crate::admin::Admin;
use crate::commands::Session;
use crate::output::{duration_text, time_text};

#[derive(Serialize)]
struct Apps {
    apps: Vec<AppView>,
}

pub(super) async fn run(session: &Session) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let answer = admin
        .api
        .list_apps(ListAppsRequest {})
        .await
        .map_err(|status| admin.failed("list apps", &status))?;
    let apps = Apps {
        apps: answer
            .into_inner()
            .apps
            .into_iter()
            .map(AppView::from)
            .collect(),
    };
    session.output.print(&apps, |output, apps| {
        let mut table = output.table(&["APP", "NAME", "STATE", "TOKEN LIFE", "CREATED"]);
        for app in &apps.apps {
            let life = Duration::from_millis(app.token_life_max_ms);
            table.add_row([
                app.app_id.as_str(),
                &app.name,
                app.state(),
                &duration_text(life),
                &time_text(app.created_ms),
            ]);
        }
        table.to_string()
    })
}
