//! One run: a cluster, a load, faults one after the other, the recovery, the check, the report.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::check;
use crate::cluster::{Cluster, ClusterSpec};
use crate::faults::{Fault, Stage};
use crate::history::{Closing, History, Run};
use crate::load::{Load, LoadSpec};
use crate::logs::{self, Allowed};
use crate::recovery;
use crate::report::{Counts, Report};

/// Load without a fault before the first one.
const WARM_UP: Duration = Duration::from_secs(1);

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
        let keep = std::env::var_os("PARLANCE_TESTS_KEEP").map_or_else(
            || std::env::temp_dir().join("parlance-tests-kept"),
            PathBuf::from,
        );
        Self {
            seed,
            length,
            faults,
            cluster,
            load,
            keep,
            keep_always: false,
        }
    }

    fn fault_names(&self) -> Vec<String> {
        self.faults.iter().map(ToString::to_string).collect()
    }

    fn command(&self) -> String {
        let environment: String = self
            .cluster
            .environment
            .iter()
            .map(|(name, value)| format!(" --environment {name}={value}"))
            .collect();
        format!(
            "parlance-tests chaos --seed {} --length {}s --faults {} --shards {} --rate {}{environment}",
            self.seed,
            self.length.as_secs(),
            self.fault_names().join(","),
            self.cluster.shards,
            self.load.rate
        )
    }
}

/// Runs it. An error means that there was nothing to judge: the cluster could not be started.
pub async fn run(spec: &ChaosSpec) -> Result<Report> {
    let _turn = ONE_CLUSTER.lock().await;
    let history = History::default();
    let started = Instant::now();
    history.note(format!(
        "a cluster of {} nodes and {} gateways",
        spec.cluster.nodes, spec.cluster.gateways
    ));
    let mut cluster_spec = spec.cluster.clone();
    cluster_spec.relays |= spec.faults.iter().any(|fault| fault.needs_relays());
    cluster_spec.disks |= spec.faults.iter().any(|fault| fault.needs_disks());
    let mut cluster = Cluster::start(cluster_spec).await?;
    let mut allowed = Allowed::default();
    let outcome = drive(spec, &mut cluster, &history, &mut allowed).await;
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
        // Without the closing reads everything would seem lost.
        violations: if read_back {
            check::all(&run)
        } else {
            Vec::new()
        },
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

async fn drive(
    spec: &ChaosSpec,
    cluster: &mut Cluster,
    history: &History,
    allowed: &mut Allowed,
) -> Result<Closing> {
    let mut rng = StdRng::seed_from_u64(spec.seed ^ FAULT_SEED);
    let mut load = Load::start(
        &spec.load,
        &cluster.gateway_addresses(),
        &cluster.signer,
        history,
    )
    .await?;
    history.note("load: on");
    sleep(WARM_UP).await;
    let slice = spec.length / u32::try_from(spec.faults.len().max(1)).unwrap_or(1);
    for fault in &spec.faults {
        history.note(format!("fault: {fault}"));
        let until = Instant::now() + slice;
        let mut stage = Stage {
            cluster,
            load: &load,
            history,
            rng: &mut rng,
            allowed,
        };
        fault.run(&mut stage).await?;
        sleep_until(until).await;
    }
    recovery::settle(cluster, &mut load, history).await
}

/// Faults and load draw from different streams of one seed.
const FAULT_SEED: u64 = 0x6661_756c_7473;
