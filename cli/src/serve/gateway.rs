//! `parlance gateway`: one gateway, until a signal. Then it is not ready any more and serves on for a while, and then tells
//! its clients to go elsewhere.

use std::sync::Arc;

use anyhow::Context;
use parlance_gateway::{Config, Gateway};
use serde_json::{Value, json};

use super::process::{self, Awaited, Process};
use super::settings::WithProcess;
use crate::args::ProcessArgs;
use crate::commands::Session;
use crate::config_file::Settings;
use crate::open_files;

impl Settings for WithProcess<Config> {
    const NAME: &'static str = "gateway";
    const REQUIRED: &'static [&'static str] = &[
        "gateway_id",
        "listener",
        "nodes",
        "tls.ca",
        "tls.cert",
        "tls.key",
    ];

    fn placeholders() -> Value {
        json!({
            "gateway_id": "g", "listener": [{ "address": "127.0.0.1:1" }], "nodes": ["127.0.0.1:1"],
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
    let mut config = settings.part;
    let limits = &mut config.limits;
    limits.connections_max = open_files::for_gateway(limits.connections_max)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        gateway = config.gateway_id,
        nodes = config.nodes.join(","),
        "gateway starts"
    );
    let awaited = Awaited::new();
    awaited.reload_on_hangup(Gateway::reload_certificates)?;
    let probes = awaited.probes(
        &format!("gateway {}", config.gateway_id),
        |gateway: &Gateway| gateway.ready().map(|()| gateway.notes()),
    );
    let _ops = process.serve_ops(&settings.process, probes).await?;
    let gateway = tokio::select! {
        gateway = Gateway::start(config) => Arc::new(gateway.context("start the gateway")?),
        signal = process.signals.next() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
    };
    awaited.is_there(&gateway);
    tracing::info!(listeners = ?gateway.addresses(), "gateway serves");
    let signal = process.signals.next().await;
    tracing::info!(
        signal,
        "gateway stops: first it serves on, until nobody is sent here"
    );
    tokio::select! {
        () = gateway.lame_duck() => {}
        signal = process.signals.next() => tracing::info!(signal, "another signal: it waits no longer"),
    }
    tracing::info!("gateway sends its clients elsewhere");
    process.signals.force_on_next();
    process::sole(gateway).await.shutdown().await;
    tracing::info!("gateway stopped");
    Ok(())
}
