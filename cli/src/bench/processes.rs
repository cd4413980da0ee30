//! What processes cost, read from /proc: CPU time, memory, bytes written. Where /proc has no answer, neither have we.

use std::path::Path;

use serde::Serialize;

/// Ticks of CPU time a second. Linux has shown 100 to programs on every architecture for decades.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// As in `node 1`, `gateway 2`, `generator`.
    pub name: String,
    pub pid: u32,
}

/// Readings of one process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reading {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub written_bytes: Option<u64>,
}

/// What a process took between two readings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    pub name: String,
    pub cpu_seconds: f64,
    /// CPU seconds for a million of what was counted.
    pub cpu_seconds_per_million: f64,
    pub resident_bytes: u64,
    pub written_bytes: Option<u64>,
}

/// Reads a process; none if it is gone.
pub fn read(pid: u32) -> Option<Reading> {
    let file = |name: &str| {
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(name)).ok()
    };
    Some(Reading {
        cpu_seconds: parse_cpu_seconds(&file("stat")?)?,
        resident_bytes: parse_resident_bytes(&file("status")?)?,
        written_bytes: file("io").as_deref().and_then(parse_written_bytes),
    })
}

/// Reads all, in order.
pub fn read_all(processes: &[Process]) -> Vec<Option<Reading>> {
    processes.iter().map(|process| read(process.pid)).collect()
}

/// The differences, for `count` units of work.
pub fn costs(
    processes: &[Process],
    before: &[Option<Reading>],
    after: &[Option<Reading>],
    count: u64,
) -> Vec<Cost> {
    let each = processes.iter().zip(before.iter().zip(after));
    each.filter_map(|(process, (before, after))| {
        let (before, after) = ((*before)?, (*after)?);
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        Some(Cost {
            name: process.name.clone(),
            cpu_seconds,
            cpu_seconds_per_million: per(cpu_seconds, count) * 1e6,
            resident_bytes: after.resident_bytes,
            written_bytes: before
                .written_bytes
                .zip(after.written_bytes)
                .map(|(b, a)| a.saturating_sub(b)),
        })
    })
    .collect()
}

/// A share of a total; 0 of nothing.
pub fn per(value: f64, count: u64) -> f64 {
    if count == 0 {
        0.0
    } else {
        value / count as f64
    }
}

/// All cores of the machine: seconds busy and seconds idle since it started.
pub fn machine_cpu() -> Option<(f64, f64)> {
    parse_machine_cpu(&std::fs::read_to_string("/proc/stat").ok()?)
}

fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    // The name may hold anything, spaces and brackets included: count from the last bracket.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let kib: u64 = field(status, "VmRSS:")?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(kib * 1024)
}

fn parse_written_bytes(io: &str) -> Option<u64> {
    field(io, "write_bytes:")?.trim().parse().ok()
}

fn parse_machine_cpu(stat: &str) -> Option<(f64, f64)> {
    let numbers: Vec<f64> = field(stat, "cpu ")?
        .split_ascii_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = numbers[..] else {
        return None;
    };
    Some((
        (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND,
        (idle + iowait) / TICKS_PER_SECOND,
    ))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let stat = "7 (a) b) R 1 1 1 0 -1 4194304 122 0 0 0 250 50 0 0 20 0 1 0 400388 3133440 383";
        assert_eq!(parse_cpu_seconds(stat), Some(3.0));
        assert_eq!(
            parse_resident_bytes("Name:\tx\nVmRSS:\t    12 kB\n"),
            Some(12 * 1024)
        );
        assert_eq!(
            parse_written_bytes("wchar: 5\nwrite_bytes: 4096\ncancelled_write_bytes: 1\n"),
            Some(4096)
        );
        assert_eq!(
            parse_machine_cpu("cpu  100 0 100 300 100 0 0 0 0 0\ncpu0 1 1\n"),
            Some((2.0, 4.0))
        );
        assert_eq!(parse_cpu_seconds("nonsense"), None);
        assert!(read(std::process::id()).is_some_and(|r| r.resident_bytes > 0));
    }

    #[test]
    fn costs_are_differences_and_a_process_that_is_gone_has_none() {
        let process = |name: &str| Process {
            name: name.into(),
            pid: 1,
        };
        let reading = |cpu_seconds, written| {
            Some(Reading {
                cpu_seconds,
                resident_bytes: 5,
                written_bytes: Some(written),
            })
        };
        let all = [process("node 1"), process("node 2")];
        let costs = costs(
            &all,
            &[reading(1.0, 10), reading(1.0, 0)],
            &[reading(3.0, 30), None],
            1000,
        );
        assert_eq!(costs.len(), 1);
        assert_eq!(
            (costs[0].cpu_seconds, costs[0].written_bytes),
            (2.0, Some(20))
        );
        assert_eq!(costs[0].cpu_seconds_per_million, 2000.0);
    }
}
