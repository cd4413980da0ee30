//! Nodes that end where a place in their code is reached. A build with switches reads the place from a file, and removes
//! the file as it ends there: so it is known who did.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::seq::IndexedRandom;

use super::super::Stage;
use crate::cluster::STOP_WITHIN;
use crate::wait::until;

const STRUCK_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Armed {
    nodes: Vec<u64>,
    point: &'static str,
}

impl Armed {
    /// At one of these places each of the nodes ends.
    pub(super) fn one_of(
        stage: &mut Stage<'_>,
        points: &[&'static str],
        nodes: Vec<u64>,
    ) -> Result<Self> {
        let point = points.choose(stage.rng).copied().context("no place")?;
        for node in &nodes {
            std::fs::write(stage.cluster.crash_file(&name(*node)), point)?;
        }
        Ok(Self { nodes, point })
    }

    /// Waits until one has ended there, lets the others be, and starts whoever ended. Says how many did.
    pub(super) async fn end(&self, stage: &mut Stage<'_>) -> Result<u64> {
        let cluster = &mut *stage.cluster;
        let files = self.nodes.iter().map(|id| cluster.crash_file(&name(*id)));
        let files: Vec<_> = files.collect();
        let what = format!("a node ends at {}", self.point);
        let struck = until(&what, STRUCK_WITHIN, async || {
            let gone = files.iter().any(|file| !file.exists());
            gone.then_some(()).context("all run on")
        });
        if let Err(error) = struck.await {
            stage.history.note(format!("{error:#}"));
        }
        let mut times = 0;
        for (node, file) in self.nodes.iter().zip(files) {
            if std::fs::remove_file(file).is_ok() {
                continue;
            }
            let process = cluster.node(*node)?;
            if process.runs() {
                process.wait_for_end(STOP_WITHIN).await?;
            }
            process.start()?;
            let on = format!("node {node} at {}", self.point);
            stage.history.note(format!("{on} ended, and is started"));
            stage.strikes.add(on, 1);
            times += 1;
        }
        Ok(times)
    }
}

/// As the process is named, which need not be there yet.
fn name(node: u64) -> String {
    format!("node-{node}")
}

impl fmt::Display for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at nodes {:?}", self.point, self.nodes)
    }
}
