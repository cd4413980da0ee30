//! The ports for gateways and operators and for clients, besieged: by sockets that say nothing, and without a file descriptor left.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use parlance_tests::cluster::health::OpenMetrics;
use parlance_tests::cluster::process::Process;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::{self, Allowed};
use parlance_tests::story::tell;
use parlance_tests::wait::until;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::SOON;

/// More than a node lets one address have.
const SILENT: usize = 100;
/// What a process says that has no file descriptors left, and how often.
const CANNOT: &str = "cannot be accepted";
const TOLD_EVERY_S: u64 = 10;
/// So many that a process which told each would say too much.
const FAILURES: f64 = 20.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_and_a_lack_of_files_keep_nobody_out_for_long() -> Result<()> {
    let allowed = Allowed {
        // Whoever looks at its certificates meanwhile says so too.
        texts: vec![CANNOT.to_owned(), "Too many open files".to_owned()],
        ..Allowed::default()
    };
    tell(ClusterSpec::default(), allowed, async |cluster| {
        silent_sockets(cluster).await?;
        let (link, ops) = (cluster.address.link(2), cluster.address.node_ops(2));
        no_files_left(cluster.node(2)?, link, ops, "parlance_node").await?;
        until("operators are let in again", SOON, async || {
            cluster.admin(2).await?.status().await
        })
        .await?;

        let (clients, ops) = (cluster.address.gateway(1), cluster.address.gateway_ops(1));
        no_files_left(&cluster.gateways[0], clients, ops, "parlance_gateway").await?;
        cluster.wait_gateways_ready(SOON).await
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

/// Takes a process its file descriptors: each failure is counted, and few are told.
async fn no_files_left(
    process: &Process,
    address: SocketAddr,
    ops: SocketAddr,
    prefix: &str,
) -> Result<()> {
    let pid = process.pid().context("it does not run")?;
    let mut metrics = OpenMetrics::of(ops).await?;
    let name = format!("{prefix}_accept_failures_total");
    let (before, began) = (files_limit(pid, 1)?, Instant::now());
    let _waiting = from_elsewhere(address).await?;
    let counted = until("the failures are counted", SOON, async || {
        let failed = metrics.metric(&name, "").await?;
        ensure!(failed >= FAILURES, "{failed} of {FAILURES}");
        Ok(failed)
    });
    let counted = counted.await;
    files_limit(pid, before)?;
    let failed = counted?;
    let lines = logs::read(process.log())?.matches(CANNOT).count() as u64;
    // Once, and again after each interval.
    let most = 1 + began.elapsed().as_secs() / TOLD_EVERY_S;
    ensure!(
        (1..=most).contains(&lines),
        "{lines} lines for {failed} failures, at most {most}"
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
