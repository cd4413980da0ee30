//! What the operator's commands do: a folder for each noun, a file for each verb.

pub mod app;
pub mod ca;
pub mod certificate;
pub mod cluster;
pub mod completions;
pub mod context;
pub mod message;
pub mod node;
pub mod session;
pub mod token;
pub mod user;

use crate::args::Globals;
use crate::context::Resolved;
use crate::output::Output;

/// What every command gets.
pub struct Session {
    pub globals: Globals,
    pub output: Output,
}

impl Session {
    pub fn new(globals: Globals) -> Self {
        let output = Output::new(globals.output);
        Self { globals, output }
    }

    /// The cluster that this command is about.
    pub fn resolve(&self) -> anyhow::Result<Resolved> {
        crate::context::resolve(&self.globals)
    }
}
