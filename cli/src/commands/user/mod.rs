//! `parlance user`: what operators do with the users of an app.

mod kick;

use crate::args::UserCommand;
use crate::commands::Session;

pub async fn run(session: &Session, command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Kick {
            app_id,
            user_id,
            lasts,
            reason,
        } => kick::run(session, app_id, user_id, lasts, reason).await,
    }
}
