//! A process of this program, started for a run: it inherits no settings and ends with the run.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, Command};

const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Starts a node or a gateway with its settings file; what it says goes to the log.
pub(super) fn start(kind: &str, config: &Path, log: &Path) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("find this program")?;
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .context("open its log")?;
    let mut command = Command::new(program);
    command.arg(kind).arg("--config").arg(config);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("PARLANCE_") {
            command.env_remove(variable);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    Ok(command.spawn()?)
}

/// Asks it to stop, and kills it if it does not.
pub(super) async fn end(child: &mut Child) -> anyhow::Result<()> {
    if let Some(pid) = child
        .id()
        .and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
    {
        // An error means that it is gone already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(STOP_WITHIN, child.wait())
        .await
        .is_err()
    {
        child
            .kill()
            .await
            .context("kill a process that does not stop")?;
    }
    Ok(())
}

/// Free a moment ago.
pub(super) fn free_tcp_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr())?)
}

/// Free a moment ago.
pub(super) fn free_udp_port() -> anyhow::Result<SocketAddr> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.local_addr())?)
}
