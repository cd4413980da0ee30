//! The machine that a measurement ran on.

use serde::Serialize;

/// As far as it matters for comparing figures.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub memory_bytes: u64,
    pub cpu: String,
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default();
            line.trim_start_matches([' ', '\t', ':']).trim().to_owned()
        };
        let memory_kib = field(&file("/proc/meminfo"), "MemTotal");
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: memory_kib
                .trim_end_matches(" kB")
                .parse::<u64>()
                .unwrap_or(0)
                * 1024,
            cpu: field(&file("/proc/cpuinfo"), "model name"),
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}
