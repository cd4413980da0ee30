//! What a serving process does around its library: settings, logs, metrics, signals, the operations listener.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::settings::{ProcessSettings, WithProcess};
use crate::args::ProcessArgs;
use crate::commands::Session;
use crate::config_file::{self, Settings};
use crate::ops::{self, Ops, Probes};
use crate::output::say;
use crate::signals::{Signals, on_hangup};
use crate::telemetry;

/// Reads the settings; none if they were only to be checked, and are shown.
pub(super) fn settings<C>(
    session: &Session,
    args: &ProcessArgs,
) -> anyhow::Result<Option<WithProcess<C>>>
where
    C: Serialize + DeserializeOwned,
    WithProcess<C>: Settings,
{
    let mut settings = config_file::load::<WithProcess<C>>(args.config.as_deref())?;
    if let Some(filter) = &session.globals.log {
        settings.process.log_filter.clone_from(filter);
    }
    if !args.check {
        return Ok(Some(settings));
    }
    let toml = config_file::effective_toml(&settings)?;
    session.output.print(&settings, |_, _| toml)?;
    say("the settings are good");
    Ok(None)
}

/// A process that is set up but serves nothing yet.
pub(super) struct Process {
    pub signals: Signals,
    metrics: PrometheusHandle,
}

impl Process {
    /// Once in a process, before anything is started.
    pub(super) fn set_up(settings: &ProcessSettings) -> anyhow::Result<Self> {
        telemetry::init_logs(settings.log_format, &settings.log_filter)?;
        telemetry::abort_on_panic();
        // Whatever this process writes is for its own user.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        Ok(Self {
            signals: Signals::listen()?,
            metrics: telemetry::init_metrics()?,
        })
    }

    /// Starts the operations listener, if one is wanted.
    pub(super) async fn serve_ops(
        &self,
        settings: &ProcessSettings,
        probes: Probes,
    ) -> anyhow::Result<Option<Ops>> {
        let Some(listen) = settings.ops_listen else {
            return Ok(None);
        };
        Ok(Some(
            ops::serve(listen, self.metrics.clone(), probes).await?,
        ))
    }
}

/// A part that others ask for before it is there: a start may take long, and is no reason to seem dead.
pub(super) struct Awaited<T>(Arc<OnceLock<Weak<T>>>);

impl<T: Send + Sync + 'static> Awaited<T> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// The process is alive while it answers, and ready when the part is.
    pub(super) fn probes(
        &self,
        name: &str,
        ready: impl Fn(&T) -> Result<Vec<String>, String> + Send + Sync + 'static,
    ) -> Probes {
        let part = self.0.clone();
        let mut probes = Probes::default();
        // That this answers says that the runtime still runs tasks.
        probes.live(name, || Ok(()));
        probes.ready(name, move || match part.get() {
            Some(part) => ask(part, &ready),
            None => Err("starting".to_owned()),
        });
        probes
    }

    /// On SIGHUP the part looks at its certificate files.
    pub(super) fn reload_on_hangup(
        &self,
        reload: impl Fn(&T) + Send + 'static,
    ) -> anyhow::Result<()> {
        let part = self.0.clone();
        on_hangup(move || {
            if let Some(part) = part.get().and_then(Weak::upgrade) {
                tracing::info!("SIGHUP: the certificate files are looked at");
                reload(&part);
            }
        })
    }

    /// Here it is.
    pub(super) fn is_there(&self, part: &Arc<T>) {
        let _ = self.0.set(Arc::downgrade(part));
    }
}

/// Takes a part out of its shared handle, to stop it. Only probes share it, each for the moment of one answer.
pub(super) async fn sole<T>(mut part: Arc<T>) -> T {
    loop {
        match Arc::try_unwrap(part) {
            Ok(part) => return part,
            Err(shared) => part = shared,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Asks a part that may be gone by now.
pub(super) fn ask<T>(
    part: &Weak<T>,
    ready: impl FnOnce(&T) -> Result<Vec<String>, String>,
) -> Result<Vec<String>, String> {
    part.upgrade()
        .map_or_else(|| Err("stopping".to_owned()), |part| ready(&part))
}
