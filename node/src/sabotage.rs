//! What a build for tests breaks on purpose, so that the history checker can be shown to notice it, and where it dies when it
//! is told to. In any other build every question here is answered with no when it is compiled.
//!
//! A switch is an environment variable of the process. A crash point is named in the file that `PARLANCE_TEST_CRASH_FILE` names:
//! whoever comes by removes the file and ends by SIGKILL, without a word to anybody.

/// A promise to break: the variable that does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// The log is written, and the disk is not waited for.
    NoSync,
    /// A message is acknowledged now and then that was put into no log.
    ForgetMessages,
    /// Short pages have a wrong time in one event now and then.
    ChangePages,
    /// Who takes himself for the leader answers reads without proving it.
    NoReadBarrier,
    /// Every tenth push to a user is lost.
    DropPushes,
    /// Every third user or so is told of nothing, ever.
    ForgetUsers,
    /// Two messages of one sender change places now and then.
    SwapMessages,
    /// What was stored is refused now and then.
    RefuseStored,
    /// One entry in 200 is skipped.
    SkipEntries,
    /// Unread counts are one too high.
    UnreadOffByOne,
    /// Read cursors go back if they are asked to.
    CursorsGoBack,
}

/// A place in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    BeforeLogSave,
    AfterLogSave,
    BeforeApply,
    AfterApply,
    BeforeSnapshotBuild,
    AfterSnapshotBuild,
    BeforeSnapshotInstall,
    InSnapshotInstall,
    AfterSnapshotInstall,
    /// The rows of a split are written, and on no disk yet.
    InSplit,
    AfterSplit,
    BeforeVotersChange,
    AfterVotersChange,
}

#[cfg(feature = "unsafe-test-switches")]
mod armed {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::{CrashPoint, Switch};

    const SWITCHES: usize = Switch::CursorsGoBack as usize + 1;

    fn name(switch: Switch) -> &'static str {
        match switch {
            Switch::NoSync => "PARLANCE_TEST_UNSAFE_NO_SYNC",
            Switch::ForgetMessages => "PARLANCE_TEST_UNSAFE_FORGET_MESSAGES",
            Switch::ChangePages => "PARLANCE_TEST_UNSAFE_CHANGE_PAGES",
            Switch::NoReadBarrier => "PARLANCE_TEST_UNSAFE_NO_READ_BARRIER",
            Switch::DropPushes => "PARLANCE_TEST_UNSAFE_DROP_PUSHES",
            Switch::ForgetUsers => "PARLANCE_TEST_UNSAFE_FORGET_USERS",
            Switch::SwapMessages => "PARLANCE_TEST_UNSAFE_SWAP_MESSAGES",
            Switch::RefuseStored => "PARLANCE_TEST_UNSAFE_REFUSE_STORED",
            Switch::SkipEntries => "PARLANCE_TEST_UNSAFE_SKIP_ENTRIES",
            Switch::UnreadOffByOne => "PARLANCE_TEST_UNSAFE_UNREAD_OFF_BY_ONE",
            Switch::CursorsGoBack => "PARLANCE_TEST_UNSAFE_CURSORS_GO_BACK",
        }
    }

    /// Whether the process was started with a switch.
    pub fn is_on(switch: Switch) -> bool {
        static ON: [OnceLock<bool>; SWITCHES] = [const { OnceLock::new() }; SWITCHES];
        let on = ON.get(switch as usize);
        on.is_some_and(|on| {
            *on.get_or_init(|| std::env::var_os(name(switch)).is_some_and(|value| value == "1"))
        })
    }

    /// Whether it is on, and its turn is now: at one question of so many.
    pub fn one_in(count: u64, switch: Switch) -> bool {
        static ASKED: [AtomicU64; SWITCHES] = [const { AtomicU64::new(0) }; SWITCHES];
        let asked = ASKED.get(switch as usize);
        is_on(switch)
            && asked.is_some_and(|asked| asked.fetch_add(1, Ordering::Relaxed) % count == count - 1)
    }

    fn said(point: CrashPoint) -> &'static str {
        match point {
            CrashPoint::BeforeLogSave => "before-log-save",
            CrashPoint::AfterLogSave => "after-log-save",
            CrashPoint::BeforeApply => "before-apply",
            CrashPoint::AfterApply => "after-apply",
            CrashPoint::BeforeSnapshotBuild => "before-snapshot-build",
            CrashPoint::AfterSnapshotBuild => "after-snapshot-build",
            CrashPoint::BeforeSnapshotInstall => "before-snapshot-install",
            CrashPoint::InSnapshotInstall => "in-snapshot-install",
            CrashPoint::AfterSnapshotInstall => "after-snapshot-install",
            CrashPoint::InSplit => "in-split",
            CrashPoint::AfterSplit => "after-split",
            CrashPoint::BeforeVotersChange => "before-voters-change",
            CrashPoint::AfterVotersChange => "after-voters-change",
        }
    }

    /// Ends the process if this is where it is to end.
    pub fn crash_point(point: CrashPoint) {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        let file =
            FILE.get_or_init(|| std::env::var_os("PARLANCE_TEST_CRASH_FILE").map(PathBuf::from));
        let Some(file) = file else { return };
        let wanted = std::fs::read_to_string(file).unwrap_or_default();
        // Removed by one thread alone; and it does not end there again when it is started again.
        if wanted.trim() == said(point) && std::fs::remove_file(file).is_ok() {
            // As `kill -9` would: to the tests any other signal is a crash that nobody wanted.
            let _ = kill_process(getpid(), Signal::KILL);
            std::process::abort();
        }
    }
}

#[cfg(not(feature = "unsafe-test-switches"))]
mod armed {
    use super::{CrashPoint, Switch};

    /// Whether the process was started with a switch.
    pub const fn is_on(_: Switch) -> bool {
        false
    }

    /// Whether it is on, and its turn is now: at one question of so many.
    pub const fn one_in(_: u64, _: Switch) -> bool {
        false
    }

    /// Ends the process if this is where it is to end.
    pub const fn crash_point(_: CrashPoint) {}
}

pub use armed::{crash_point, is_on, one_in};
