//! Waiting until a cluster is whole: every process ready, every shard with a leader and all its voters.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Cluster;
use crate::wait::until;

/// Of an answer to a plain HTTP request; far longer than one takes.
const HTTP_WITHIN: Duration = Duration::from_secs(15);

impl Cluster {
    /// Waits for `/readyz` of all nodes that run.
    pub async fn wait_nodes_ready(&self, within: Duration) -> Result<()> {
        for (node_id, node) in &self.nodes {
            if node.runs() {
                self.wait_node_ready(*node_id, within).await?;
            }
        }
        Ok(())
    }

    /// Waits for `/readyz` of one node.
    pub async fn wait_node_ready(&self, node_id: u64, within: Duration) -> Result<()> {
        ready(
            &format!("node {node_id}"),
            self.address.node_ops(node_id),
            within,
        )
        .await
    }

    /// Waits until every node answers operators, member of a cluster or not.
    pub async fn wait_admin_answers(&self, within: Duration) -> Result<()> {
        for node_id in self.nodes.keys() {
            until(&format!("node {node_id} answers"), within, async || {
                self.admin(*node_id).await?.status().await
            })
            .await?;
        }
        Ok(())
    }

    /// The sum of one metric of a node, over the lines that contain `label`.
    pub async fn node_metric(&self, node_id: u64, name: &str, label: &str) -> Result<f64> {
        metric(self.address.node_ops(node_id), name, label).await
    }

    /// Waits for `/readyz` of all gateways that run.
    pub async fn wait_gateways_ready(&self, within: Duration) -> Result<()> {
        for (number, gateway) in (1..).zip(&self.gateways) {
            if gateway.runs() {
                ready(
                    &format!("gateway {number}"),
                    self.address.gateway_ops(number),
                    within,
                )
                .await?;
            }
        }
        Ok(())
    }

    /// Waits until every running node says that every shard is well and has exactly the voters that the map wants.
    pub async fn wait_healthy(&self, within: Duration) -> Result<()> {
        until("every shard is well", within, async || {
            for (node_id, node) in &self.nodes {
                if node.runs() {
                    self.node_is_content(*node_id).await?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn node_is_content(&self, node_id: u64) -> Result<()> {
        let status = self.admin(node_id).await?.status().await?;
        let members: Vec<u64> = status
            .nodes
            .iter()
            .filter(|n| n.state == "member")
            .map(|n| n.node_id)
            .collect();
        if !members.iter().eq(self.nodes.keys()) {
            bail!(
                "node {node_id} knows the members {members:?}, there are {:?}",
                self.nodes.keys()
            );
        }
        let meta = status.meta.unwrap_or_default();
        if meta.leader == 0 || meta.health != "ok" {
            bail!("node {node_id} says of the meta shard: {meta:?}");
        }
        if status.shards.len() != self.spec.shards as usize {
            bail!(
                "node {node_id} tells of {} shards of {}",
                status.shards.len(),
                self.spec.shards
            );
        }
        for shard in status.shards {
            let (mut wanted, mut voters) = (shard.wanted.clone(), shard.voters.clone());
            wanted.sort_unstable();
            voters.sort_unstable();
            // A node tells the voters of the shards that it has a replica of.
            let differ = wanted.contains(&node_id) && voters != wanted;
            if shard.leader == 0 || shard.health != "ok" || differ {
                bail!("node {node_id} says: {shard:?}");
            }
        }
        Ok(())
    }

    /// The node that leads most shards, as the first running node knows.
    pub async fn busiest_leader(&self) -> Result<u64> {
        let status = self.any_admin().await?.status().await?;
        let most = status
            .nodes
            .iter()
            .filter(|node| self.nodes.contains_key(&node.node_id))
            .max_by_key(|node| node.leads);
        Ok(most.context("no node in the status")?.node_id)
    }
}

async fn ready(name: &str, address: SocketAddr, within: Duration) -> Result<()> {
    until(&format!("{name} is ready"), within, async || {
        let (status, body) = http_get(address, "/readyz").await?;
        if status != 200 {
            bail!("/readyz answers {status}: {}", body.trim());
        }
        Ok(())
    })
    .await
}

/// The sum of one metric of a process, over the lines that contain `label`.
pub async fn metric(ops: SocketAddr, name: &str, label: &str) -> Result<f64> {
    let (_, text) = http_get(ops, "/metrics").await?;
    Ok(sum(&text, name, label))
}

/// Of what `/metrics` says, the sum of one metric.
fn sum(text: &str, name: &str, label: &str) -> f64 {
    let lines = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// An open connection to the metrics of a process, which is asked although it can accept no other.
pub struct OpenMetrics(BufStream<TcpStream>);

impl OpenMetrics {
    pub async fn of(ops: SocketAddr) -> Result<Self> {
        let mut open = Self(BufStream::new(TcpStream::connect(ops).await?));
        // The process has it once it has answered.
        open.metric("", "").await?;
        Ok(open)
    }

    /// The sum of one metric, over the lines that contain `label`.
    pub async fn metric(&mut self, name: &str, label: &str) -> Result<f64> {
        self.0
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n")
            .await?;
        self.0.flush().await?;
        let mut length = None;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await?;
            let line = line.trim().to_ascii_lowercase();
            match line.strip_prefix("content-length:") {
                Some(bytes) => length = Some(bytes.trim().parse()?),
                None if line.is_empty() => break,
                None => {}
            }
        }
        let mut text = vec![0; length.context("no length in the answer")?];
        self.0.read_exact(&mut text).await?;
        Ok(sum(&String::from_utf8_lossy(&text), name, label))
    }
}

/// A plain HTTP GET: the status and the body. Whoever does not answer in time is not waited for.
pub async fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let got = timeout(HTTP_WITHIN, get(address, path)).await;
    got.with_context(|| format!("{address} does not answer {path} within {HTTP_WITHIN:?}"))?
}

async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("connect to {address}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("no HTTP status in the answer")?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    Ok((status, body))
}
