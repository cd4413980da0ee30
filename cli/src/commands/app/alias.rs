//! `parlance app alias`: other names of an app.

use parlance_proto::admin::v1::ChangeAppRequest;

use super::set::change_app;
use crate::args::AliasCommand;
use crate::commands::Session;

pub(super) async fn run(session: &Session, command: AliasCommand) -> anyhow::Result<()> {
    let change = match command {
        AliasCommand::Add { app_id, alias } => ChangeAppRequest {
            app_id: (&app_id).into(),
            add_aliases: vec![(&alias).into()],
            ..ChangeAppRequest::default()
        },
        AliasCommand::Remove { app_id, alias } => ChangeAppRequest {
            app_id: (&app_id).into(),
            remove_aliases: vec![(&alias).into()],
            ..ChangeAppRequest::default()
        },
    };
    let app = change_app(session, change).await?;
    session.output.print(&app, |_, app| match &*app.aliases {
        [] => format!("app {} has no alias", app.app_id),
        aliases => format!("app {} is also called {}", app.app_id, aliases.join(", ")),
    })
}
