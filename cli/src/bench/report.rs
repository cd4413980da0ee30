//! Figures as a table for people or as one JSON object for programs.

use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;

use super::disk;
use super::latency::Latency;
use super::load::Outcome;
use super::machine::Machine;
use super::target::{Target, TargetSummary};
use crate::commands::Session;
use crate::output::{Output, say};

/// Everything that a reader needs to repeat a measurement, and its figures.
#[derive(Debug, Serialize)]
pub struct Report<'a, R> {
    pub bench: &'static str,
    pub version: &'static str,
    pub command: String,
    pub machine: Machine,
    /// 4 KiB written and synced in the data folder, before anything ran; none if the cluster was running already.
    pub fsync: Option<Latency>,
    pub cluster: TargetSummary,
    pub runs: &'a [R],
}

/// Prints a report; `table` shows the runs.
pub fn print<R: Serialize>(
    session: &Session,
    bench: &'static str,
    target: &Target,
    cluster: TargetSummary,
    runs: &[R],
    table: impl FnOnce(&Output, &[R]) -> String,
) -> Result<()> {
    let report = Report {
        bench,
        version: env!("CARGO_PKG_VERSION"),
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        machine: Machine::read(),
        fsync: target.own.as_ref().map(|own| own.fsync),
        cluster,
        runs,
    };
    session.output.print(&report, |output, report| {
        format!("{}\n\n{}", head(report), table(output, report.runs))
    })
}

fn head<R>(report: &Report<'_, R>) -> String {
    let machine = &report.machine;
    let gib = machine.memory_bytes as f64 / f64::from(1 << 30);
    let mut text = format!(
        "parlance {} {}\n{} cores, {:.0} GiB, {}, Linux {}",
        report.version, report.command, machine.cores, gib, machine.cpu, machine.kernel
    );
    if let Some(fsync) = &report.fsync {
        text += &format!(
            "\nfsync of 4 KiB: {:.2} ms p50, {:.2} ms p99",
            fsync.p50_ms, fsync.p99_ms
        );
        if fsync.p50_ms < disk::DOUBTFUL_MS {
            text += " (this is not a disk, or one that acknowledges before it has written: the figures flatter)";
        }
    }
    text
}

/// The table of runs of messages.
pub fn outcomes(output: &Output, runs: &[Outcome]) -> String {
    let mut table = output.table(&[
        "RUN",
        "ACK/S",
        "ACK P50",
        "P99",
        "P999",
        "DELIVERED/S",
        "DEL P50",
        "P99",
        "P999",
        "BYTES/MSG",
        "ERRORS",
        "LOST",
    ]);
    for run in runs {
        let ms = |value: f64| format!("{value:.1} ms");
        let latency = |l: &Latency| [ms(l.p50_ms), ms(l.p99_ms), ms(l.p999_ms)];
        let mut row = vec![
            run.name.clone(),
            format!("{:.0}", run.acknowledged_per_second),
        ];
        row.extend(latency(&run.ack));
        row.push(format!("{:.0}", run.delivered_per_second));
        row.extend(latency(&run.delivery));
        row.push(
            run.written_bytes_per_message
                .map_or("-".to_owned(), |bytes| format!("{bytes:.0}")),
        );
        row.push(run.errors.values().sum::<u64>().to_string());
        row.push(run.undelivered.to_string());
        table.add_row(row);
    }
    format!(
        "{table}\n\nCPU seconds for a million acknowledged messages\n{}{}",
        costs(output, runs),
        remarks(runs)
    )
}

fn costs(output: &Output, runs: &[Outcome]) -> Table {
    let names: Vec<&str> = runs
        .first()
        .map(|r| r.processes.iter().map(|p| p.name.as_str()).collect())
        .unwrap_or_default();
    let mut head = vec!["RUN"];
    head.extend(&names);
    head.push("MACHINE IDLE");
    let mut table = output.table(&head);
    for run in runs {
        let mut row = vec![run.name.clone()];
        row.extend(
            run.processes
                .iter()
                .map(|p| format!("{:.1}", p.cpu_seconds_per_million)),
        );
        row.push(format!("{:.0} %", run.generator.machine_idle * 100.0));
        table.add_row(row);
    }
    table
}

fn remarks(runs: &[Outcome]) -> String {
    let mut text = String::new();
    for run in runs {
        if let Some(reason) = &run.generator.bottleneck {
            text += &format!("\n{}: the GENERATOR was the bottleneck: {reason}", run.name);
        }
        if let Some(reason) = &run.first_loss {
            text += &format!(
                "\n{}: {} connections ended during the run: {reason}",
                run.name, run.lost
            );
        }
        for (code, count) in &run.errors {
            text += &format!("\n{}: {count} sends answered {code}", run.name);
        }
    }
    text
}

/// Says how a run went while others are still to come.
pub fn say_run(run: &Outcome) {
    say(format!(
        "{}: {:.0} acknowledged/s, p50 {:.1} ms, p99 {:.1} ms; {:.0} delivered/s, p99 {:.1} ms",
        run.name,
        run.acknowledged_per_second,
        run.ack.p50_ms,
        run.ack.p99_ms,
        run.delivered_per_second,
        run.delivery.p99_ms
    ));
}
