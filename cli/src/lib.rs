//! The one program of Parlance, as a library: the processes it runs, the operator's commands, and the load generator.
//!
//! The binary parses and exits; `args` shows the whole command tree. Logging, signals, settings and exit codes are
//! known here and nowhere else: node and gateway are libraries.

pub mod admin;
pub mod args;
pub mod bench;
pub mod ca;
pub mod commands;
pub mod config_file;
pub mod context;
pub mod exit;
pub mod files;
pub mod open_files;
pub mod ops;
pub mod output;
pub mod serve;
pub mod signals;
pub mod telemetry;
pub mod token;

use anyhow::Context;

use crate::args::{Args, Command, NodeArgs};
use crate::commands::Session;

/// Runs one command to its end.
pub fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    // Boxed: the largest of the commands would otherwise sit on the stack for all.
    let result = runtime.block_on(Box::pin(dispatch(args)));
    // A task that still blocks must not keep the process: what had to be waited for, was.
    runtime.shutdown_background();
    result
}

async fn dispatch(args: Args) -> anyhow::Result<()> {
    let session = Session::new(args.globals);
    if !args.command.is_process() {
        telemetry::init_logs(
            telemetry::LogFormat::Text,
            session.globals.log.as_deref().unwrap_or("warn"),
        )?;
    }
    match args.command {
        Command::Dev(dev) => serve::dev::run(&session, dev).await,
        Command::Gateway(process) => serve::gateway::run(&session, process).await,
        Command::Node(NodeArgs {
            process,
            command: None,
        }) => serve::node::run(&session, process).await,
        Command::Node(NodeArgs {
            command: Some(command),
            ..
        }) => commands::node::run(&session, command).await,
        Command::Cluster(command) => commands::cluster::run(&session, command).await,
        Command::App(command) => commands::app::run(&session, command).await,
        Command::User(command) => commands::user::run(&session, command).await,
        Command::Session(command) => commands::session::run(&session, command).await,
        Command::Token(command) => commands::token::run(&session, command).await,
        Command::Send(args) => commands::message::send::run(&session, args).await,
        Command::Tail(args) => commands::message::tail::run(&session, args).await,
        Command::History(args) => commands::message::history::run(&session, args).await,
        Command::Context(command) => commands::context::run(&session, command),
        Command::Ca(command) => commands::ca::run(&session, command),
        Command::Certificate(command) => commands::certificate::run(&session, command).await,
        Command::Bench(command) => bench::run(&session, command).await,
        Command::Completions { shell } => commands::completions::run(&session, shell),
    }
}
