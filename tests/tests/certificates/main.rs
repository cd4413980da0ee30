//! Certificates of real processes: renewed, moved to another authority, denied, bound to whom they are for; and what
//! only their owner may read.

mod denied;
mod doors;
mod identity;
mod private;
mod renewal;
mod rotation;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_proto::tls::{Role, TlsFiles, TlsIdentity};
use parlance_tests::cluster::Cluster;
use parlance_tests::cluster::health::metric;
use parlance_tests::wait::until;

const SOON: Duration = Duration::from_secs(60);

/// A process, its certificate's file name and role, and where it is asked.
struct Peer {
    name: String,
    role: Role,
    ops: SocketAddr,
}

/// All processes of a cluster.
fn peers(cluster: &Cluster) -> Vec<Peer> {
    let nodes = cluster.nodes.keys().map(|id| Peer {
        name: format!("node-{id}"),
        role: Role::Node(*id),
        ops: cluster.address.node_ops(*id),
    });
    let gateways = (1..=cluster.gateways.len()).map(|number| Peer {
        name: format!("gateway-{number}"),
        role: Role::Gateway(format!("gateway-{number}")),
        ops: cluster.address.gateway_ops(number),
    });
    nodes.chain(gateways).collect()
}

/// Where a process has its files.
fn files(cluster: &Cluster, name: &str) -> TlsFiles {
    let dir = cluster.dir().join("tls");
    TlsFiles {
        ca: dir.join("ca.crt"),
        cert: dir.join(format!("{name}.crt")),
        key: dir.join(format!("{name}.key")),
    }
}

/// The serial number of the certificate in a process's files.
fn serial(cluster: &Cluster, name: &str) -> Result<String> {
    let identity = TlsIdentity::load(&files(cluster, name))?;
    Ok(identity.certificate.serial.to_string())
}

/// In the place of another file in one step, as a deployment does it.
fn put(contents: &[u8], place: &Path) -> Result<()> {
    let new = place.with_extension("new");
    std::fs::write(&new, contents)?;
    std::fs::rename(&new, place).with_context(|| format!("replace {}", place.display()))
}

/// How often a process has read its cluster certificate again, with this result.
async fn reloads(peer: &Peer, result: &str) -> Result<f64> {
    let label = format!("result=\"{result}\"");
    metric(peer.ops, "parlance_certificate_reloads_total{", &label).await
}

/// Waits until every process has read its files more often than before.
async fn all_reload(peers: &[Peer], before: &[f64]) -> Result<()> {
    for (peer, before) in peers.iter().zip(before) {
        let what = format!("{} has read its certificate again", peer.name);
        until(&what, SOON, async || {
            let now = reloads(peer, "ok").await?;
            ensure!(now > *before, "{now} times");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn all_reloads(peers: &[Peer]) -> Result<Vec<f64>> {
    let mut counts = Vec::new();
    for peer in peers {
        counts.push(reloads(peer, "ok").await?);
    }
    Ok(counts)
}

/// The serial numbers that a node tells of nodes and gateways, by name.
async fn told(cluster: &Cluster, node_id: u64) -> Result<Vec<(String, String)>> {
    let status = cluster.admin(node_id).await?.status().await?;
    let nodes = status.nodes.into_iter().map(|node| {
        let certificate = node.certificate.unwrap_or_default();
        (format!("node-{}", node.node_id), certificate.serial_hex)
    });
    let gateways = status.gateways.into_iter().map(|gateway| {
        let certificate = gateway.certificate.unwrap_or_default();
        (gateway.gateway_id, certificate.serial_hex)
    });
    Ok(nodes.chain(gateways).collect())
}
