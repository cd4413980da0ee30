//! The operator's commands, run as an operator runs them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_proto::tls::Role;
use serde_json::Value;
use tokio::process::Command;

use crate::cluster::{Cluster, binary};

/// A split takes this long at most.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Exit codes.
pub const DONE: Option<i32> = Some(0);
pub const FAILED: Option<i32> = Some(1);
pub const NOT_POSSIBLE: Option<i32> = Some(2);

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

/// Commands with the addresses and certificates of a cluster.
pub struct Shell {
    cli: Cli,
    globals: Vec<String>,
}

impl Shell {
    /// A home directory beside the cluster's files.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        let home = cluster.dir().join("operator-home");
        std::fs::create_dir_all(&home)?;
        Ok(Self {
            cli: Cli::new(&home)?,
            globals: globals(cluster)?,
        })
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Said> {
        let all: Vec<&str> = arguments
            .iter()
            .copied()
            .chain(self.globals.iter().map(String::as_str))
            .collect();
        self.cli.run(&all).await
    }

    /// As [`Shell::run`], with JSON on stdout.
    pub async fn run_json(&self, arguments: &[&str]) -> Result<Said> {
        let arguments: Vec<&str> = arguments
            .iter()
            .copied()
            .chain(["--output", "json"])
            .collect();
        self.run(&arguments).await
    }

    /// The JSON of a command that must succeed.
    pub async fn data(&self, arguments: &[&str]) -> Result<Value> {
        let said = self.run_json(arguments).await?;
        ensure!(said.code == DONE, "{arguments:?}: {said:?}");
        said.json()
    }
}

/// The flags that say where a cluster is; its operator's certificate under the names that the command expects.
fn globals(cluster: &Cluster) -> Result<Vec<String>> {
    let files = cluster.authority.issue("cli", Role::Admin)?;
    let dir = cluster.dir().join("operator-tls");
    std::fs::create_dir_all(&dir)?;
    for (from, name) in [
        (&files.ca, "ca.pem"),
        (&files.cert, "admin.pem"),
        (&files.key, "admin-key.pem"),
    ] {
        std::fs::copy(from, dir.join(name))?;
    }
    let mut flags = vec!["--tls-dir".to_owned(), dir.display().to_string()];
    for node_id in 1..=cluster.spec.nodes {
        flags.extend([
            "--server".to_owned(),
            cluster.address.link(node_id).to_string(),
        ]);
    }
    for address in cluster.gateway_addresses() {
        flags.extend(["--via".to_owned(), format!("ws://{address}/ws")]);
    }
    Ok(flags)
}
