//! `parlance app list`.

use std::time::Duration;

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
    let apps = admin.apps().await?.into_iter().map(AppView::from);
    let apps = Apps {
        apps: apps.collect(),
    };
    session.output.print(&apps, |output, apps| {
        let mut table = output.table(&["APP", "ALSO", "NAME", "STATE", "TOKEN LIFE", "CREATED"]);
        for app in &apps.apps {
            let life = Duration::from_millis(app.token_life_max_ms);
            table.add_row([
                app.app_id.as_str(),
                &app.aliases.join(" "),
                &app.name,
                app.state(),
                &duration_text(life),
                &time_text(app.created_ms),
            ]);
        }
        table.to_string()
    })
}
