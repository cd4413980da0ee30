//! Ends that no test asks for: a process that a signal ended which nobody sends, and the core that it left.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::Result;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::keep;

/// What tests send, and crash points send themselves.
const SENT: [Signal; 3] = [Signal::KILL, Signal::TERM, Signal::HUP];

/// Whether it ended by a signal that nobody here sends: it fell over its own memory, or gave itself up.
pub(super) fn is_crash(status: ExitStatus) -> bool {
    status
        .signal()
        .is_some_and(|signal| SENT.iter().all(|sent| sent.as_raw() != signal))
}

/// What is started from now on leaves a core when it crashes, where the system lets us.
pub(super) fn allow_cores() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    // A refusal costs the core alone: the crash is found without it.
    let _ = setrlimit(
        Resource::Core,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}

/// Takes the core out of a directory that is about to go. None is found where the system puts cores elsewhere
/// (`/proc/sys/kernel/core_pattern`).
pub(super) fn keep_core(dir: &Path, process: &str, pid: u32) -> Result<Option<PathBuf>> {
    for file in std::fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name == "core" || name.starts_with("core.") {
            let kept = keep::dir();
            std::fs::create_dir_all(&kept)?;
            let kept = kept.join(format!("core-{process}-{pid}"));
            // Another file system takes a copy.
            if std::fs::rename(file.path(), &kept).is_err() {
                std::fs::copy(file.path(), &kept)?;
                std::fs::remove_file(file.path())?;
            }
            return Ok(Some(kept));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::process::{Process, Program};

    const SOON: Duration = Duration::from_secs(10);

    /// A shell that does this, in a directory of its own.
    fn shell(dir: &Path, script: &str) -> Process {
        let program = Program {
            binary: PathBuf::from("/bin/sh"),
            environment: Vec::new(),
        };
        let arguments = ["-c", script].map(str::to_owned).into();
        Process::new("shell", program, arguments, dir.join("shell.log"))
    }

    #[tokio::test]
    async fn who_asks_for_crashes_is_told_the_signal_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(dir.path(), "kill -SEGV $$");
        process.start().unwrap();
        process.wait_for_end(SOON).await.unwrap();
        let crashes = process.crashes().unwrap();
        assert!(
            crashes.len() == 1 && crashes[0].contains("SIGSEGV"),
            "{crashes:?}"
        );
        assert!(process.crashes().unwrap().is_empty());
    }

    #[tokio::test]
    #[should_panic(expected = "shell ended with signal: 11 (SIGSEGV)")]
    async fn a_crash_that_nobody_asked_for_fails_the_test() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(dir.path(), "kill -SEGV $$");
        process.start().unwrap();
        process.wait_for_end(SOON).await.unwrap();
    }

    #[test]
    fn what_a_test_kills_has_not_crashed() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(dir.path(), "sleep 60");
        process.start().unwrap();
        process.kill().unwrap();
        assert!(process.crashes().unwrap().is_empty());
    }

    #[test]
    fn a_crash_is_a_signal_that_nobody_sends() {
        let by = |signal: Signal| is_crash(ExitStatus::from_raw(signal.as_raw()));
        assert!(by(Signal::SEGV) && by(Signal::ABORT) && by(Signal::BUS));
        assert!(!by(Signal::KILL) && !by(Signal::TERM));
        // An exit code, as of a node that gives up over a disk.
        assert!(!is_crash(ExitStatus::from_raw(1 << 8)));
    }
}
