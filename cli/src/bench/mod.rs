//! `parlance bench`: a load generator that measures a cluster from client socket to client socket.
//!
//! It measures the disk first, reads what every process costs from /proc, and says when it was itself the bottleneck.
//! What the figures mean is in `docs/benchmarks.md`.

pub mod cluster;
mod connections;
mod disk;
mod failover;
mod fanout;
mod latency;
mod load;
mod machine;
mod own_process;
mod processes;
mod report;
mod send;
mod session;
mod settings;
mod stamp;
mod target;
mod verdict;

use crate::args::bench::BenchCommand;
use crate::commands::Session;
use crate::open_files;

/// Runs one measurement and prints it.
pub async fn run(session: &Session, command: BenchCommand) -> anyhow::Result<()> {
    open_files::raise();
    match command {
        BenchCommand::Send(args) => send::run(session, args).await,
        BenchCommand::Fanout(args) => fanout::run(session, args).await,
        BenchCommand::Connections(args) => connections::run(session, args).await,
        BenchCommand::Failover(args) => failover::run(session, args).await,
    }
}
