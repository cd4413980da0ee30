//! Processes that were struck, and how they come back.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use tokio::time::sleep;

use super::super::Stage;
use crate::cluster::STOP_WITHIN;

/// A node that crashes as it starts does so this often.
const CRASHES: u64 = 3;
const CRASH_AFTER_MS: std::ops::Range<u64> = 20..1500;

/// What is to be done to processes.
pub(super) enum Back {
    Start(Vec<u64>),
    /// It was asked to stop.
    StartStopped(u64),
    /// Again and again as it starts.
    KillAgain(u64),
    /// It stands still.
    KillFrozen(u64),
    Thaw(u64),
    StartGateway(usize),
    ThawGateway(usize),
}

impl Back {
    /// Does it, and gives how often they were struck.
    pub(super) async fn come(self, stage: &mut Stage<'_>) -> Result<u64> {
        let cluster = &mut *stage.cluster;
        match self {
            Back::Start(nodes) => {
                for node in nodes {
                    cluster.node(node)?.start()?;
                }
            }
            Back::StartStopped(node) => {
                let process = cluster.node(node)?;
                process.has_stopped(STOP_WITHIN).await?;
                process.start()?;
            }
            Back::KillAgain(node) => {
                let process = cluster.node(node)?;
                for _ in 0..CRASHES {
                    process.start()?;
                    sleep(Duration::from_millis(
                        stage.rng.random_range(CRASH_AFTER_MS),
                    ))
                    .await;
                    process.kill()?;
                }
                process.start()?;
                return Ok(1 + CRASHES);
            }
            Back::KillFrozen(node) => {
                let process = cluster.node(node)?;
                process.kill()?;
                process.start()?;
            }
            Back::Thaw(node) => cluster.node(node)?.thaw()?,
            Back::StartGateway(gateway) => {
                let process = cluster.gateways.get_mut(gateway);
                process.context("no gateway")?.start()?;
            }
            Back::ThawGateway(gateway) => {
                let process = cluster.gateways.get(gateway);
                process.context("no gateway")?.thaw()?;
            }
        }
        Ok(1)
    }
}

impl fmt::Display for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Back::Start(nodes) if nodes.len() > 1 => write!(f, "nodes {nodes:?}"),
            Back::Start(nodes) => write!(f, "node {}", nodes.first().copied().unwrap_or_default()),
            Back::StartStopped(node)
            | Back::KillAgain(node)
            | Back::KillFrozen(node)
            | Back::Thaw(node) => write!(f, "node {node}"),
            Back::StartGateway(gateway) | Back::ThawGateway(gateway) => {
                write!(f, "gateway {}", gateway + 1)
            }
        }
    }
}
