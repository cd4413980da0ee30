//! `parlance cluster`: make one, see how it does, let it grow.

mod certificates;
mod check;
mod init;
mod split;
mod status;
mod status_table;
mod upgrade;

use crate::args::ClusterCommand;
use crate::commands::Session;

pub use init::init;
pub(super) use status::fetch;

pub async fn run(session: &Session, command: ClusterCommand) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Init { nodes, shards } => init::run(session, nodes, shards).await,
        ClusterCommand::Status { shards } => status::run(session, shards).await,
        ClusterCommand::Check { wait } => check::run(session, wait).await,
        ClusterCommand::Split { shard, at } => split::run(session, shard, at).await,
        ClusterCommand::Upgrade { check } => upgrade::run(session, check).await,
    }
}
