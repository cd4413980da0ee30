//! One run: a cluster, a load, faults one after the other, the recovery, the check, the report.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bulk::Bulk;
use crate::check;
use crate::cluster::{Cluster, ClusterSpec};
use crate::faults::swarm::{self, Means};
use crate::faults::{Fault, Stage, Strikes};
use crate::history::{Closing, History, Run, What};
use crate::load::{Load, LoadSpec};
use crate::logs::{self, Allowed};
use crate::readers::NodeReaders;
use crate::recovery;
use crate::report::{Counts, Report};
use crate::whisper::Whispers;

/// Load without a fault before the first one.
const WARM_UP: Duration = Duration::from_secs(1);

/// What a node takes in at least when it is fed.
const BYTES_A_SECOND: u64 = 4 << 20;

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
            bulk_bytes: 0,
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
    let mut cluster = Cluster::start(cluster_spec).await?;
    let mut allowed = Allowed::default();
    let mut strikes = Vec::new();
    let outcome = drive(spec, &mut cluster, &history, &mut allowed, &mut strikes).await;
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
        strikes,
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

/// A run under way.
struct Driver<'a> {
    cluster: &'a mut Cluster,
    load: &'a Load,
    whispers: Whispers,
    history: &'a History,
    allowed: &'a mut Allowed,
    rng: StdRng,
    strikes: &'a mut Vec<(String, Strikes)>,
    patience: Duration,
    seed: u64,
    /// Events of quiet conversations that were acknowledged.
    whispered: usize,
}

impl Driver<'_> {
    /// One fault, with whispers in the middle of it.
    async fn round(
        &mut self,
        name: &str,
        fault: impl AsyncFnOnce(&mut Stage<'_>) -> Result<()>,
    ) -> Result<()> {
        self.history.note(format!("fault: {name}"));
        let over = |over| What::Fault {
            name: name.to_owned(),
            over,
        };
        self.history.record(over(false));
        let whispering = self.whispers.begin();
        let mut strikes = Strikes::default();
        let mut stage = Stage {
            cluster: &mut *self.cluster,
            load: self.load,
            history: self.history,
            rng: &mut self.rng,
            allowed: &mut *self.allowed,
            strikes: &mut strikes,
            patience: self.patience,
        };
        let done = fault(&mut stage).await;
        self.history.record(over(true));
        match self.strikes.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.all(strikes),
            None => self.strikes.push((name.to_owned(), strikes)),
        }
        done?;
        let whispered = whispering.end(&self.whispers, self.load, self.history);
        let whispered = whispered.await?;
        self.history.note(format!("{whispered} whispers were told"));
        self.whispered += whispered;
        Ok(())
    }

    async fn fault(&mut self, fault: Fault, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        let name = fault.to_string();
        match fault {
            Fault::None => {
                self.round(&name, async |_| {
                    sleep_until(until).await;
                    Ok(())
                })
                .await
            }
            Fault::Swarm => self.swarm(until).await,
            fault => {
                self.round(&name, async |stage| fault.run(stage).await)
                    .await?;
                sleep_until(until).await;
                let struck = self.strikes.iter().find(|(known, _)| *known == name);
                if struck.is_none_or(|(_, strikes)| strikes.is_empty()) {
                    bail!("the fault {name} never struck");
                }
                Ok(())
            }
        }
    }

    async fn swarm(&mut self, until: Instant) -> Result<()> {
        let moves = swarm::draw(self.seed, Means::of(&self.cluster.spec));
        self.history.note(format!("this swarm has {moves:?}"));
        while Instant::now() < until {
            let pair = swarm::pair(&moves, &mut self.rng);
            let names: Vec<String> = pair.iter().map(ToString::to_string).collect();
            let name = names.join(" and ");
            self.round(&name, async |stage| swarm::round(stage, &pair).await)
                .await?;
        }
        Ok(())
    }
}

async fn drive(
    spec: &ChaosSpec,
    cluster: &mut Cluster,
    history: &History,
    allowed: &mut Allowed,
    strikes: &mut Vec<(String, Strikes)>,
) -> Result<Closing> {
    let (gateways, signer) = (cluster.gateway_addresses(), cluster.signer.clone());
    let mut load = Load::start(&spec.load, &gateways, &signer, history).await?;
    let seed = spec.seed ^ WHISPER_SEED;
    let whispers = Whispers::start(&load, &gateways, &signer, history, seed).await?;
    let bulk = Bulk::write(&gateways, &signer, spec.bulk_bytes).await?;
    let readers = NodeReaders::start(cluster, &load.conversations, history, seed).await?;
    history.note("load: on");
    sleep(WARM_UP).await;
    let slice = spec.length / u32::try_from(spec.faults.len().max(1)).unwrap_or(1);
    let mut driver = Driver {
        cluster: &mut *cluster,
        load: &load,
        whispers,
        history,
        allowed,
        rng: StdRng::seed_from_u64(spec.seed ^ FAULT_SEED),
        strikes,
        patience: Duration::from_secs(spec.bulk_bytes / BYTES_A_SECOND),
        seed: spec.seed,
        whispered: 0,
    };
    for fault in &spec.faults {
        driver.fault(*fault, slice).await?;
    }
    let whispers = driver.whispers;
    ensure!(
        driver.whispered > 0,
        "no quiet conversation was spoken in: lost pushes would not be noticed"
    );
    history.note(format!("readers of nodes: {:?}", readers.answers));
    ensure!(
        readers.answers.pages.load(Ordering::Relaxed) > 0,
        "no reader that is linked to a node got a page: stale reads would not be noticed"
    );
    drop(readers);
    let closing = recovery::settle(cluster, &mut load, history).await?;
    drop(whispers);
    bulk.check(&gateways, &signer).await?;
    Ok(closing)
}

/// Faults, whispers and load draw from different streams of one seed.
const FAULT_SEED: u64 = 0x6661_756c_7473;
const WHISPER_SEED: u64 = 0x7073_7374;
