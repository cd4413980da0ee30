//! `parlance bench connections`: resident memory of a gateway for each idle logged-in connection.
//!
//! Resident memory is what the process itself holds; what the kernel keeps for a socket is not in it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use parlance_client::wire::Endpoint;
use serde::Serialize;
use tokio::time::Instant;

use super::processes::{self, Process};
use super::report;
use super::session::Session as ClientSession;
use super::target::Target;
use crate::args::bench::ConnectionsArgs;
use crate::commands::Session;
use crate::exit::not_possible;
use crate::output::{Output, say};

/// Opened before the first reading, so that what a process allocates once is not counted.
const WARM_UP_CONNECTIONS: usize = 200;
/// Connections from one local address to one gateway; the system has about 28,000 ports by default.
const CONNECTIONS_PER_ADDRESS: usize = 10_000;

#[derive(Debug, Serialize)]
struct Idle {
    connections: usize,
    opened_per_second: f64,
    /// Still open at the end.
    alive: usize,
    /// Of all gateways together.
    gateway_bytes_per_connection: f64,
    processes: Vec<Growth>,
}

#[derive(Debug, Serialize)]
struct Growth {
    name: String,
    before_bytes: u64,
    after_bytes: u64,
    bytes_per_connection: f64,
}

pub async fn run(session: &Session, args: ConnectionsArgs) -> anyhow::Result<()> {
    if args.count == 0 || args.at_once == 0 {
        return Err(not_possible("0 connections measure nothing"));
    }
    let target = Target::open(session, &args.target).await?;
    if target.own.is_none() {
        return Err(not_possible(
            "the memory of a running cluster cannot be read from here: start one with --nodes",
        ));
    }
    let warm_up = open(&target, 0..WARM_UP_CONNECTIONS, args.at_once).await?;
    tokio::time::sleep(args.settle).await;
    let before = resident(&target)?;
    let started = Instant::now();
    let range = WARM_UP_CONNECTIONS..WARM_UP_CONNECTIONS + args.count;
    let mut sessions = open(&target, range, args.at_once).await?;
    let opened = started.elapsed();
    say(format!(
        "{} connections are open; waiting {:?}",
        sessions.len(),
        args.settle
    ));
    tokio::time::sleep(args.settle).await;
    let after = resident(&target)?;
    let alive = sessions
        .iter_mut()
        .map(ClientSession::is_closed)
        .filter(|closed| !closed)
        .count();
    let idle = sum_up(
        &target.processes,
        &before,
        &after,
        args.count,
        opened,
        alive,
    );
    report::print(
        session,
        "connections",
        &target,
        target.summary(&args.target),
        &[idle],
        table,
    )?;
    drop((warm_up, sessions));
    target.close().await
}

async fn open(
    target: &Target,
    numbers: std::ops::Range<usize>,
    at_once: usize,
) -> anyhow::Result<Vec<ClientSession>> {
    let opening = numbers.map(|number| async move {
        let token = target.token(&target.new_user()?)?;
        let gateway = target.gateway(number);
        let source = source_address(gateway, number / target.gateways.len());
        ClientSession::open(gateway, source, &token)
            .await
            .with_context(|| format!("open connection {number}"))
    });
    stream::iter(opening)
        .buffer_unordered(at_once)
        .try_collect()
        .await
}

/// All of 127.0.0.0/8 is this machine: new addresses bring new ports. Elsewhere the system chooses.
fn source_address(gateway: &Endpoint, number: usize) -> Option<IpAddr> {
    local_address(gateway.addresses().first()?.ip(), number)
}

fn local_address(gateway: IpAddr, number: usize) -> Option<IpAddr> {
    let IpAddr::V4(address) = gateway else {
        return None;
    };
    let block = u8::try_from(number / CONNECTIONS_PER_ADDRESS).ok()?;
    address
        .is_loopback()
        .then(|| Ipv4Addr::new(127, 0, 1, block.saturating_add(1)).into())
}

fn resident(target: &Target) -> anyhow::Result<Vec<u64>> {
    let read = |process: &Process| match processes::read(process.pid) {
        Some(reading) => Ok(reading.resident_bytes),
        None => bail!("{} is gone, or /proc cannot be read", process.name),
    };
    target.processes.iter().map(read).collect()
}

fn sum_up(
    processes: &[Process],
    before: &[u64],
    after: &[u64],
    count: usize,
    opened: Duration,
    alive: usize,
) -> Idle {
    let growth =
        processes
            .iter()
            .zip(before.iter().zip(after))
            .map(|(process, (before, after))| Growth {
                name: process.name.clone(),
                before_bytes: *before,
                after_bytes: *after,
                bytes_per_connection: (*after as f64 - *before as f64) / count as f64,
            });
    let growth: Vec<Growth> = growth.collect();
    let gateways = growth.iter().filter(|g| g.name.starts_with("gateway"));
    Idle {
        connections: count,
        opened_per_second: count as f64 / opened.as_secs_f64(),
        alive,
        gateway_bytes_per_connection: gateways.map(|g| g.bytes_per_connection).sum(),
        processes: growth,
    }
}

fn table(output: &Output, runs: &[Idle]) -> String {
    let mut text = String::new();
    for run in runs {
        let mut table = output.table(&["PROCESS", "BEFORE MIB", "AFTER MIB", "BYTES/CONNECTION"]);
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        for growth in &run.processes {
            let each = format!("{:.0}", growth.bytes_per_connection);
            table.add_row([
                growth.name.clone(),
                mib(growth.before_bytes),
                mib(growth.after_bytes),
                each,
            ]);
        }
        text += &format!(
            "{} connections, {:.0} opened a second, {} alive at the end: {:.0} bytes of gateway memory each\n\n{table}\n",
            run.connections, run.opened_per_second, run.alive, run.gateway_bytes_per_connection
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_count_and_addresses_change_before_ports_run_out() {
        let process = |name: &str| Process {
            name: name.into(),
            pid: 1,
        };
        let all = [
            process("node 1"),
            process("gateway 1"),
            process("gateway 2"),
            process("generator"),
        ];
        let idle = sum_up(
            &all,
            &[0, 1000, 500, 0],
            &[9000, 3000, 1500, 9],
            10,
            Duration::from_secs(2),
            10,
        );
        assert_eq!(
            (idle.gateway_bytes_per_connection, idle.opened_per_second),
            (300.0, 5.0)
        );
        let local = "127.0.0.1".parse().unwrap();
        assert_ne!(
            local_address(local, 0),
            local_address(local, CONNECTIONS_PER_ADDRESS)
        );
        assert_eq!(local_address("10.0.0.1".parse().unwrap(), 0), None);
    }
}
