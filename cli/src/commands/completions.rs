//! `parlance completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::commands::Session;

/// Prints the shell's completion script.
pub fn run(session: &Session, shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "parlance", &mut script);
    session.output.text(&String::from_utf8_lossy(&script))
}
