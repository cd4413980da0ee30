//! `parlance gateway`: one gateway, until a signal; its clients are told to go elsewhere first.

use std::sync::{Arc, OnceLock, Weak};

use anyhow::Context;
use parlance_gateway::{Config, Gateway};
use serde_json::{Value, json};

use super::process::{self, Process};
use super::settings::WithProcess;
use crate::args::ProcessArgs;
use crate::commands::Session;
use crate::config_file::Settings;
use crate::open_files;
use crate::ops::Probes;
use crate::signals::on_hangup;

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
    let started: Arc<OnceLock<Weak<Gateway>>> = Arc::default();
    let hung_up = started.clone();
    on_hangup(move || {
        if let Some(gateway) = hung_up.get().and_then(Weak::upgrade) {
            tracing::info!("SIGHUP: the certificate files are looked at");
            gateway.reload_certificates();
        }
    })?;
    let probed = started.clone();
    let mut probes = Probes::default();
    let name = format!("gateway {}", config.gateway_id);
    probes.live(name.as_str(), || Ok(()));
    probes.ready(name, move || match probed.get() {
        Some(gateway) => process::ask(gateway, |gateway| gateway.ready().map(|()| gateway.notes())),
        None => Err("starting".to_owned()),
    });
    let _ops = process.serve_ops(&settings.process, probes).await?;
    let gateway = tokio::select! {
        gateway = Gateway::start(config) => Arc::new(gateway.context("start the gateway")?),
        signal = process.signals.next() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
    };
    let _ = started.set(Arc::downgrade(&gateway));
    tracing::info!(listeners = ?gateway.addresses(), "gateway serves");
    let signal = process.signals.next().await;
    tracing::info!(signal, "gateway stops: sends its clients elsewhere");
    process.signals.force_on_next();
    process::sole(gateway).await.shutdown().await;
    tracing::info!("gateway stopped");
    Ok(())
}
