//! The operator's commands, run as an operator runs them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;

use crate::cluster::binary;

const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Its data as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("stdout is no JSON: {self:?}"))
    }
}

/// Runs commands with a home directory of their own.
pub struct Cli {
    binary: PathBuf,
    home: PathBuf,
}

impl Cli {
    /// Contexts and the like go into `home`.
    pub fn new(home: &Path) -> Result<Self> {
        Ok(Self {
            binary: binary::find()?,
            home: home.to_owned(),
        })
    }

    /// Runs `parlance` with arguments to its end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Said> {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", &self.home)
            .current_dir(&self.home);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(ENDS_WITHIN, command.output());
        let output = output
            .await
            .with_context(|| format!("parlance {arguments:?} does not end"))??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        })
    }
}
