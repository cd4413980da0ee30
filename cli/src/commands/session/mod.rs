//! `parlance session`: who is logged in.

mod list;

use crate::args::SessionCommand;
use crate::commands::Session;

pub async fn run(session: &Session, command: SessionCommand) -> anyhow::Result<()> {
    match command {
        SessionCommand::List(args) => list::run(session, args).await,
    }
}
