//! `parlance node replace|drain`: changes to the nodes of a cluster. Running one is in `serve/node.rs`.

mod drain;
mod replace;

use crate::args::NodeCommand;
use crate::commands::Session;

pub async fn run(session: &Session, command: NodeCommand) -> anyhow::Result<()> {
    match command {
        NodeCommand::Replace { old, with, yes } => replace::run(session, old, with, yes).await,
        NodeCommand::Drain { node_id, timeout } => drain::run(session, node_id, timeout).await,
    }
}
