//! One run: a cluster, a load, faults one after the other, the recovery, the check, the report.

mod driver;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::check;
use crate::cluster::{Cluster, ClusterSpec};
use crate::faults::{Fault, Turns};
use crate::history::{Closing, History, Run};
use crate::keep;
use crate::load::LoadSpec;
use crate::logs::{self, Allowed};
use crate::memory::Memory;
use crate::report::{Counts, Report};

/// Clusters take turns on a small machine.
pub static ONE_CLUSTER: Mutex<()> = Mutex::const_new(());

/// What to run.
#[derive(Debug, Clone)]
pub struct ChaosSpec {
    pub seed: u64,
    /// Shared by the faults; a fault that takes longer gets longer.
    pub length: Duration,
    pub faults: Vec<Fault>,
    pub cluster: ClusterSpec,
    pub load: LoadSpec,
    /// Bytes in other conversations before the first fault: what moves and splits is large then.
    pub bulk_bytes: u64,
    /// Where failed runs are kept.
    pub keep: PathBuf,
    /// Keep good runs too.
    pub keep_always: bool,
}

impl ChaosSpec {
    /// Defaults for some faults.
    pub fn new(seed: u64, length: Duration, faults: Vec<Fault>) -> Self {
        // Short logs: a node that was away, or is new, catches up by snapshot.
        let raft = toml::Table::from_iter([
            ("snapshot_entries".to_owned(), toml::Value::Integer(100)),
            ("keep_entries".to_owned(), toml::Value::Integer(10)),
            ("log_entries_max".to_owned(), toml::Value::Integer(200)),
        ]);
        let mut cluster = ClusterSpec::default();
        cluster
            .node_settings
            .insert("raft".to_owned(), toml::Value::Table(raft));
        let limits = toml::Table::from_iter([("drain_ms".to_owned(), toml::Value::Integer(3000))]);
        cluster
            .gateway_settings
            .insert("limits".to_owned(), toml::Value::Table(limits));
        let load = LoadSpec {
            seed,
            ..LoadSpec::default()
        };
        Self {
            seed,
            length,
            faults,
            cluster,
            load,
            bulk_bytes: 0,
            keep: keep::dir(),
            keep_always: false,
        }
    }

    fn fault_names(&self) -> Vec<String> {
        self.faults.iter().map(ToString::to_string).collect()
    }

    /// The command that runs it again.
    pub fn command(&self) -> String {
        let environment: String = self
            .cluster
            .environment
            .iter()
            .map(|(name, value)| format!(" --environment {name}={value}"))
            .collect();
        format!(
            "parlance-tests chaos --seed {} --length {}s --faults {} --nodes {} --gateways {} --shards {} --rate {} --bulk {}{environment}",
            self.seed,
            self.length.as_secs(),
            self.fault_names().join(","),
            self.cluster.nodes,
            self.cluster.gateways,
            self.cluster.shards,
            self.load.rate,
            self.bulk_bytes
        )
    }
}

/// Runs it. An error means that there was nothing to judge: the cluster could not be started.
pub async fn run(spec: &ChaosSpec) -> Result<Report> {
    let _turn = ONE_CLUSTER.lock().await;
    let history = History::default();
    let started = Instant::now();
    history.note(format!(
        "seed {}: a cluster of {} nodes and {} gateways",
        spec.seed, spec.cluster.nodes, spec.cluster.gateways
    ));
    let mut cluster_spec = spec.cluster.clone();
    for fault in &spec.faults {
        fault.prepare(&mut cluster_spec, spec.seed)?;
    }
    let memory = Memory::watch();
    let mut cluster = Cluster::start(cluster_spec).await?;
    let mut allowed = Allowed::default();
    let mut strikes = Vec::new();
    let mut turns = Turns::default();
    let driven = driver::drive(
        spec,
        &mut cluster,
        &history,
        &mut allowed,
        &mut strikes,
        &mut turns,
    );
    let outcome = driven.await;
    let (closing, trouble) = match outcome {
        Ok(closing) => (Some(closing), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let read_back = closing.is_some();
    let run = Run {
        entries: history.entries(),
        closing: closing.unwrap_or_else(unread_closing),
    };
    let mut report = Report {
        seed: spec.seed,
        faults: spec.fault_names(),
        seconds: started.elapsed().as_secs_f64(),
        counts: Counts::of(&run),
        gaps: check::gaps(&run),
        memory_mib: memory.most_mib(),
        strikes,
        turns,
        // Without the closing reads everything would seem lost.
        violations: if read_back {
            check::all(&run)
        } else {
            Vec::new()
        },
        crashes: cluster.crashes()?,
        log_findings: logs::unexpected(&cluster, &allowed)?,
        trouble,
        kept: None,
        command: spec.command(),
    };
    if !report.passed() || spec.keep_always {
        let dir = spec.keep.join(format!(
            "{}-{}-{}",
            spec.fault_names().join("+"),
            spec.seed,
            std::process::id()
        ));
        run.save(&dir)?;
        cluster.keep_logs(&dir)?;
        report.kept = Some(dir.clone());
        std::fs::write(dir.join("report.json"), serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(report)
}

fn unread_closing() -> Closing {
    Closing {
        app_id: crate::cluster::APP.to_owned(),
        ..Closing::default()
    }
}
