//! The ports for gateways and operators and for clients, besieged: by sockets that say nothing, and without a file descriptor left.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use parlance_tests::cluster::health::metric;
use parlance_tests::cluster::process::Process;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::{self, Allowed};
use parlance_tests::story::tell;
use parlance_tests::wait::until;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::SOON;

/// More than a node lets one address have.
const SILENT: usize = 100;
/// What a process says that has no file descriptors left.
const CANNOT: &str = "cannot be accepted";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_and_a_lack_of_files_keep_nobody_out_for_long() -> Result<()> {
    let allowed = Allowed {
        texts: ["gateways and operators", "clients"]
            .map(|whose| format!("connections of {whose} cannot be accepted"))
            .into(),
        ..Allowed::default()
    };
    tell(ClusterSpec::default(), allowed, async |cluster| {
        silent_sockets(cluster).await?;
        let link = cluster.address.link(2);
        no_files_left(cluster.node(2)?, link).await?;
        until("operators are let in again", SOON, async || {
            cluster.admin(2).await?.status().await
        })
        .await?;
        let name = "parlance_node_accept_failures_total";
        let failed = cluster.node_metric(2, name, "").await?;
        told_seldom(cluster.node(2)?, failed)?;

        let clients = cluster.address.gateway(1);
        no_files_left(&cluster.gateways[0], clients).await?;
        cluster.wait_gateways_ready(SOON).await?;
        let name = "parlance_gateway_accept_failures_total";
        let failed = metric(cluster.address.gateway_ops(1), name, "").await?;
        told_seldom(&cluster.gateways[0], failed)
    })
    .await
}

async fn silent_sockets(cluster: &Cluster) -> Result<()> {
    let port = cluster.address.link(1);
    let mut sockets = Vec::new();
    for _ in 0..SILENT {
        sockets.push(from_elsewhere(port).await?);
    }
    // While they are there.
    cluster.admin(1).await?.status().await?;
    let refused = cluster.node_metric(
        1,
        "parlance_node_connections_refused_total{",
        "reason=\"too_many\"",
    );
    ensure!(refused.await? > 0.0, "one address has all {SILENT} places");
    for mut socket in sockets {
        let ended = tokio::time::timeout(SOON, socket.read(&mut [0])).await;
        let ended = ended.context("a silent socket is kept")?;
        ensure!(!matches!(ended, Ok(1..)), "it was told something");
    }
    until("the time-outs are counted", SOON, async || {
        let name = "parlance_node_connections_refused_total{";
        let counted = cluster.node_metric(1, name, "reason=\"timeout\"").await?;
        ensure!(counted > 0.0, "none");
        Ok(())
    })
    .await
}

/// From another address than the gateways and operators of the cluster have.
async fn from_elsewhere(to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 255, 0, 9), 0).into())?;
    Ok(socket.connect(to).await?)
}

/// Takes a process its file descriptors until it says so.
async fn no_files_left(process: &Process, address: SocketAddr) -> Result<()> {
    let pid = process.pid().context("it does not run")?;
    let before = files_limit(pid, 1)?;
    let mut waiting = Vec::new();
    let told = until("the process says that it cannot accept", SOON, async || {
        waiting.push(from_elsewhere(address).await?);
        let text = logs::read(process.log())?;
        ensure!(text.contains(CANNOT), "not a word");
        Ok(())
    });
    let told = told.await;
    files_limit(pid, before)?;
    told
}

/// What failed is counted, and told no more often.
fn told_seldom(process: &Process, failed: f64) -> Result<()> {
    ensure!(failed >= 1.0, "the failures are not counted");
    let lines = logs::read(process.log())?.matches(CANNOT).count();
    ensure!(
        lines as f64 <= failed,
        "{lines} lines for {failed} failures"
    );
    Ok(())
}

/// Sets the number of files that a process may have open; answers what it was.
fn files_limit(pid: u32, files: u64) -> Result<u64> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no process")?;
    let most = prlimit(
        Some(pid),
        Resource::Nofile,
        Rlimit {
            current: Some(files),
            maximum: rustix::process::getrlimit(Resource::Nofile).maximum,
        },
    )?;
    most.current.context("no limit")
}
