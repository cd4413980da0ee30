//! `parlance node`: one node, until a signal or a failed disk.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use parlance_node::{Config, Node};
use serde_json::{Value, json};

use super::process::{self, Awaited, Process};
use super::settings::WithProcess;
use crate::args::ProcessArgs;
use crate::commands::Session;
use crate::config_file::Settings;
use crate::open_files;

/// A node that cannot go on still hands over what it leads, if it can do so in this time.
const FAILED_STOP_TIMEOUT: Duration = Duration::from_secs(10);

impl Settings for WithProcess<Config> {
    const NAME: &'static str = "node";
    const REQUIRED: &'static [&'static str] = &[
        "node_id",
        "data_dir",
        "raft_listen",
        "link_listen",
        "tls.ca",
        "tls.cert",
        "tls.key",
    ];

    fn placeholders() -> Value {
        json!({
            "node_id": 1, "data_dir": "data", "raft_listen": "127.0.0.1:1", "link_listen": "127.0.0.1:1",
            "tls": { "ca": "", "cert": "", "key": "" },
        })
    }

    fn validate(&self) -> Result<(), Vec<String>> {
        self.part.validate()
    }
}

/// Runs until told to stop.
pub async fn run(session: &Session, args: ProcessArgs) -> anyhow::Result<()> {
    let Some(settings) = process::settings::<Config>(session, &args)? else {
        return Ok(());
    };
    let mut process = Process::set_up(&settings.process)?;
    let config = settings.part;
    open_files::for_node()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %config.node_id,
        raft = %config.raft_listen,
        link = %config.link_listen,
        data_dir = %config.data_dir.display(),
        "node starts"
    );
    let awaited = Awaited::new();
    awaited.reload_on_hangup(Node::reload_certificates)?;
    let probes = awaited.probes(&format!("node {}", config.node_id), |node: &Node| {
        node.ready().map(|()| node.notes())
    });
    let _ops = process.serve_ops(&settings.process, probes).await?;
    let node = tokio::select! {
        node = Node::start(config) => Arc::new(node.context("start the node")?),
        signal = process.signals.next() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
    };
    awaited.is_there(&node);
    tracing::info!(raft = %node.raft_address(), link = %node.link_address(), "node serves");
    let failure = tokio::select! {
        signal = process.signals.next() => {
            tracing::info!(signal, "node stops: hands over what it leads");
            None
        }
        failure = node.failed() => Some(failure),
    };
    process.signals.force_on_next();
    let node = process::sole(node).await;
    let Some(failure) = failure else {
        node.shutdown().await;
        tracing::info!("node stopped");
        return Ok(());
    };
    tracing::error!(reason = failure, "the node cannot go on");
    // What failed may also keep the stop from ending.
    if tokio::time::timeout(FAILED_STOP_TIMEOUT, node.shutdown())
        .await
        .is_err()
    {
        tracing::error!("the stop does not end: leaving without it");
    }
    Err(anyhow!("the node cannot go on: {failure}"))
}
