//! `parlance dev`: a whole cluster in one process, of the same parts that production runs: certificates of its own
//! authority, mutual TLS, three replicas with fsync, tokens that are checked.
//!
//! What it makes is kept in its data directory; the next run goes on with it.

mod apps;
mod cluster;
mod gateways;
mod ready;
mod state;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use parlance_proto::ids::AppId;

use super::process::Process;
use super::settings::ProcessSettings;
use crate::args::DevArgs;
use crate::ca::{self, Authority};
use crate::commands::Session;
use crate::context::{ClusterContext, Running};
use crate::exit::not_possible;
use crate::files;
use crate::ops::Probes;
use crate::output::say;

use cluster::Nodes;
use gateways::Gateways;
use state::DevState;

/// The app of a dev cluster.
const APP: &str = "demo";
/// On a terminal, without what Raft warns of whenever nodes of one process start and stop together.
const LOG_FILTER: &str = "warn,openraft=off";

/// Runs until told to stop.
pub async fn run(session: &Session, args: DevArgs) -> anyhow::Result<()> {
    let log_filter = session
        .globals
        .log
        .clone()
        .unwrap_or_else(|| LOG_FILTER.to_owned());
    let settings = ProcessSettings {
        log_filter,
        ops_listen: Some(args.ops),
        ..ProcessSettings::default()
    };
    let mut process = Process::set_up(&settings)?;
    let dir = data_dir(&args)?;
    refuse_second_run(&dir)?;
    let authority = authority(&dir.join("tls"))?;
    let state = DevState::load_or_create(&dir, &args)?;

    let started = tokio::select! {
        started = start(&dir, &authority, &state, &args) => started?,
        signal = process.signals.next() => return Err(anyhow!("stopped by {signal} while starting")),
    };
    let ops = process.serve_ops(&settings, probes(&started)).await?;
    let context = ClusterContext {
        nodes: state.link_addresses(),
        gateways: started.gateways.urls(),
        app: Some(APP.to_owned()),
        gateway_ca: None,
        tls: Some(ca::operator_files(&dir.join("tls"))?),
    };
    let registration = Running::in_default_folder().register(&context)?;
    let ready = ready::Ready {
        cluster_id: started.cluster_id.clone(),
        page: started.gateways.page(),
        gateways: started.gateways.urls(),
        app_id: APP.to_owned(),
        log_ins: ready::log_ins(&started.gateways, &started.secret)?,
        nodes: state.nodes.clone(),
        ops: ops
            .as_ref()
            .map(|ops| format!("http://{}", ops.address()))
            .unwrap_or_default(),
        context_file: registration.path().to_owned(),
    };
    let printed = ready::print(session, &ready, &dir, args.page_dir.is_some());

    let failure = match printed {
        // Whoever started it has gone: nobody would ever stop it.
        Err(e) => Some(e),
        Ok(()) => tokio::select! {
            signal = process.signals.next() => { tracing::info!(signal, "dev cluster stops"); None }
            failure = started.nodes.failed() => Some(anyhow!("a node cannot go on: {failure}")),
        },
    };
    process.signals.force_on_next();
    drop(registration);
    say("stopping; its data is kept, a second Ctrl-C stops at once");
    started.gateways.shut_down().await;
    started.nodes.shut_down().await;
    failure.map_or(Ok(()), Err)
}

/// Everything that serves.
struct Started {
    nodes: Nodes,
    gateways: Gateways,
    cluster_id: String,
    secret: String,
}

async fn start(
    dir: &Path,
    authority: &Authority,
    state: &DevState,
    args: &DevArgs,
) -> anyhow::Result<Started> {
    say(format!(
        "starting {} nodes and {} gateways on {}",
        state.nodes.len(),
        args.gateways,
        dir.display()
    ));
    let nodes = Nodes::start(dir, authority, state).await?;
    let admin_tls = cluster::certificate(authority, &parlance_proto::tls::Role::Admin)?;
    let (cluster_id, mut admin) = nodes.form_cluster(state, &admin_tls).await?;
    let secret = apps::secret_of(&mut admin, &AppId::new(APP)?).await?;
    let gateways = Gateways::start(authority, state, args).await?;
    Ok(Started {
        nodes,
        gateways,
        cluster_id,
        secret,
    })
}

fn probes(started: &Started) -> Probes {
    let mut probes = Probes::default();
    probes.live("dev", || Ok(()));
    started.nodes.probe(&mut probes);
    started.gateways.probe(&mut probes);
    probes
}

fn data_dir(args: &DevArgs) -> anyhow::Result<PathBuf> {
    let dir = match &args.data_dir {
        Some(dir) => {
            std::path::absolute(dir).with_context(|| format!("resolve {}", dir.display()))?
        }
        None => files::data_home()?.join("dev"),
    };
    files::create_private_dir(&dir)?;
    Ok(dir)
}

/// Two clusters on one directory would fight for its ports and files.
fn refuse_second_run(dir: &Path) -> anyhow::Result<()> {
    let ours = ca::operator_files(&dir.join("tls"))?;
    match Running::in_default_folder()
        .alive()
        .iter()
        .find(|running| running.context.tls.as_ref() == Some(&ours))
    {
        Some(running) => Err(not_possible(format!(
            "a dev cluster runs already on {} (context {}): stop it, or give another --data-dir",
            dir.display(),
            running.path.display()
        ))),
        None => Ok(()),
    }
}

fn authority(dir: &Path) -> anyhow::Result<Authority> {
    if ca::ca_cert(dir).exists() {
        Authority::open(dir)
    } else {
        Authority::create(dir)
    }
}
