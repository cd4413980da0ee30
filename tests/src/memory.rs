//! How much memory the processes of a run take: the most that each ever had, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The kernel remembers the most of a process; only what comes shortly before its end is missed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watches this program's processes until it is dropped.
pub struct Memory {
    /// KiB by name, as in `node-1`; of all runs of that process.
    most: Arc<Mutex<BTreeMap<String, u64>>>,
    task: JoinHandle<()>,
}

impl Memory {
    pub fn watch() -> Self {
        let most = Arc::<Mutex<BTreeMap<String, u64>>>::default();
        let seen = Arc::clone(&most);
        let task = tokio::spawn(async move {
            loop {
                look(&mut seen.lock());
                sleep(LOOK_EVERY).await;
            }
        });
        Self { most, task }
    }

    /// By process.
    pub fn most_mib(&self) -> BTreeMap<String, u64> {
        let mut most = self.most.lock();
        look(&mut most);
        let mib = |(name, kib): (&String, &u64)| (name.clone(), kib / 1024);
        most.iter().map(mib).collect()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn look(most: &mut BTreeMap<String, u64>) {
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    for process in processes.flatten() {
        // Others end while they are looked at.
        if let Some((name, kib)) = child(&process.path()) {
            let most = most.entry(name).or_default();
            *most = kib.max(*most);
        }
    }
}

/// Name and most memory of a process that this one has started with a settings file.
fn child(process: &Path) -> Option<(String, u64)> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let of = |what: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(what))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    if of("PPid:")? != u64::from(std::process::id()) {
        return None;
    }
    let arguments = fs::read_to_string(process.join("cmdline")).ok()?;
    let mut arguments = arguments.split('\0');
    arguments.find(|argument| *argument == "--config")?;
    let name = Path::new(arguments.next()?).file_stem()?.to_str()?;
    Some((name.to_owned(), of("VmHWM:")?))
}
