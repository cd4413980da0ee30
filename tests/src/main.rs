//! `parlance-tests`: the load generator, the faults and the history checker in one command.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, Subcommand, ValueEnum};
use parlance_tests::chaos::{self, ChaosSpec};
use parlance_tests::check;
use parlance_tests::cluster::binary;
use parlance_tests::faults::{Fault, MANY_NODES};
use parlance_tests::history::Run;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Breaks a real cluster and checks what it promised.
#[derive(Parser)]
#[command(name = "parlance-tests", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a cluster, loads it, breaks it, and checks the history.
    Chaos(Chaos),
    /// Checks a kept run again.
    Check {
        /// The directory that a failed run named.
        dir: PathBuf,
    },
}

#[derive(clap::Args)]
struct Chaos {
    /// What is sent and what breaks comes from this number; 0 draws one, which the run tells.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How long the faults share, as in 20s or 5m.
    #[arg(long, default_value = "20s", value_parser = seconds)]
    length: Duration,
    /// Faults by name, one after the other; `list` shows them, `all` takes all, `random` draws six, and `swarm` plays a subset
    /// of small ones, two at a time.
    #[arg(long, default_value = "none")]
    faults: String,
    /// 0: three or five, by the seed.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    #[arg(long, default_value_t = 2)]
    gateways: usize,
    #[arg(long, default_value_t = 4)]
    shards: u32,
    /// Messages a second, all together.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Bytes in other conversations before the first fault, as in 64MiB or 1GiB.
    #[arg(long, default_value = "0", value_parser = bytes)]
    bulk: u64,
    /// A variable for all processes, as in NAME=VALUE; may be given again.
    #[arg(long, value_parser = variable)]
    environment: Vec<(String, String)>,
    /// The run must fail: this is how the checker is checked on a build that is broken on purpose.
    #[arg(long)]
    expect_failure: bool,
    /// Keeps the history of a good run too.
    #[arg(long)]
    keep: bool,
    /// The report as JSON on stdout.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Chaos(arguments) => run_chaos(arguments).await,
        Command::Check { dir } => check_kept(&dir),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("parlance-tests: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run_chaos(arguments: Chaos) -> Result<bool> {
    if arguments.faults == "list" {
        for fault in Fault::value_variants() {
            println!("{fault}");
        }
        return Ok(true);
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "the seed that a run's chance comes from"
    )]
    let seed = if arguments.seed == 0 {
        rand::random_range(1..1_000_000)
    } else {
        arguments.seed
    };
    let nodes = match arguments.nodes {
        0 if seed % 2 == 0 => 5,
        0 => 3,
        nodes => nodes,
    };
    let mut spec = ChaosSpec::new(
        seed,
        arguments.length,
        faults(&arguments.faults, seed, nodes)?,
    );
    spec.cluster.nodes = nodes;
    spec.cluster.gateways = arguments.gateways;
    spec.cluster.shards = arguments.shards;
    spec.cluster.environment = arguments.environment;
    spec.load.rate = arguments.rate;
    spec.bulk_bytes = arguments.bulk;
    spec.keep_always = arguments.keep;
    // First: it is needed most if nothing comes after it.
    eprintln!("{}", spec.command());
    let report = chaos::run(&spec).await?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    eprint!("{report}");
    if arguments.expect_failure {
        return Ok(!report.violations.is_empty());
    }
    Ok(report.passed())
}

fn check_kept(dir: &std::path::Path) -> Result<bool> {
    let violations = check::all(&Run::load(dir)?);
    for violation in &violations {
        println!("{violation}");
    }
    println!("{} violations", violations.len());
    Ok(violations.is_empty())
}

fn faults(list: &str, seed: u64, nodes: u64) -> Result<Vec<Fault>> {
    // The swarm is a run of its own; not every build has crash points, and not every cluster many nodes.
    let in_any_run = |fault: &Fault| match fault {
        Fault::None | Fault::Swarm => false,
        Fault::CrashPoints => binary::with_switches().is_some(),
        Fault::ManyNodes => nodes >= MANY_NODES,
        _ => true,
    };
    let all = Fault::value_variants().iter().copied();
    let all: Vec<Fault> = all.filter(in_any_run).collect();
    match list {
        "all" => Ok(all),
        "random" => {
            let mut rng = StdRng::seed_from_u64(seed);
            Ok((0..RANDOM_FAULTS)
                .filter_map(|_| all.choose(&mut rng))
                .copied()
                .collect())
        }
        names => names
            .split(',')
            .map(|name| {
                Fault::from_str(name.trim(), false)
                    .map_err(|_| anyhow!("no fault is named {name:?}"))
            })
            .collect(),
    }
}

const RANDOM_FAULTS: usize = 6;

fn seconds(text: &str) -> Result<Duration> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let number: u64 = number.parse().context("a number and s or m, as in 20s")?;
    match unit {
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => bail!("a number and s or m, as in 20s"),
    }
}

fn bytes(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: u64 = number.parse().context("a number, as in 64MiB")?;
    match unit {
        "" => Ok(number),
        "MiB" => Ok(number << 20),
        "GiB" => Ok(number << 30),
        _ => bail!("a number with MiB or GiB, or of bytes"),
    }
}

fn variable(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
