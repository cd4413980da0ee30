//! Disks that can be made to fail: `parlance-disk` (in `tests/disk`) mounts one, and does to it what it is told.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;

use crate::needs;

/// The program, if this machine can mount what it makes; the reason if not.
fn program() -> Result<PathBuf, String> {
    let Some(program) = std::env::var_os("PARLANCE_DISK_BIN").map(PathBuf::from) else {
        return Err("PARLANCE_DISK_BIN does not name the program (make disk)".to_owned());
    };
    if !program.is_file() {
        let program = program.display();
        return Err(format!(
            "PARLANCE_DISK_BIN says {program}, which is no file"
        ));
    }
    let opened = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    match opened {
        Ok(_) => Ok(program),
        Err(error) => Err(format!("/dev/fuse: {error}")),
    }
}

/// Whether tests can have failing disks. If not it is said, and a failure in CI, where they must be there.
pub fn can_fail() -> Result<bool> {
    Ok(needs::found("disk that can be made to fail", program())?.is_some())
}

/// What is done to a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOp {
    Read,
    Write,
    Sync,
}

impl DiskOp {
    fn word(self) -> &'static str {
        match self {
            DiskOp::Read => "read",
            DiskOp::Write => "write",
            DiskOp::Sync => "sync",
        }
    }
}

/// One disk. Unmounted, and its data gone, when this is dropped.
pub struct Disk {
    folder: PathBuf,
    talk: Mutex<Talk>,
}

struct Talk {
    child: Child,
    // An option only to be closed before the end is waited for.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Disk {
    /// Mounts an empty disk over a folder, which it makes.
    pub fn mount(folder: &Path) -> Result<Self> {
        let program = program().map_err(anyhow::Error::msg)?;
        std::fs::create_dir_all(folder)?;
        let mut child = Command::new(&program)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let commands = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the disk is not mounted: {line:?}");
        let talk = Mutex::new(Talk {
            child,
            commands,
            answers,
        });
        Ok(Self {
            folder: folder.to_owned(),
            talk,
        })
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One command of `tests/disk/src/command.rs`, and what it answers.
    fn say(&self, command: &str) -> Result<String> {
        let mut talk = self.talk.lock();
        let commands = talk.commands.as_mut().context("the disk is gone")?;
        writeln!(commands, "{command}")?;
        let mut line = String::new();
        talk.answers.read_line(&mut line)?;
        match line.trim_end().strip_prefix("ok") {
            Some(said) => Ok(said.trim().to_owned()),
            None => bail!("{command}: {}", line.trim()),
        }
    }

    /// These end with EIO from now on. Patterns are of paths on the disk, with `*` for anything.
    pub fn fail(&self, op: DiskOp, pattern: &str) -> Result<()> {
        self.say(&format!("fail {} {pattern}", op.word())).map(drop)
    }

    /// These take longer from now on.
    pub fn slow(&self, op: DiskOp, pattern: &str, ms: u64) -> Result<()> {
        self.say(&format!("slow {} {pattern} {ms}", op.word()))
            .map(drop)
    }

    /// These do not end from now on. A process that waits for one cannot be killed until the disk is healed.
    pub fn hang(&self, op: DiskOp, pattern: &str) -> Result<()> {
        self.say(&format!("hang {} {pattern}", op.word())).map(drop)
    }

    /// Only so many bytes still fit.
    pub fn fill(&self, bytes_left: u64) -> Result<()> {
        self.say(&format!("full {bytes_left}")).map(drop)
    }

    /// All is well from now on; damage stays.
    pub fn heal(&self) -> Result<()> {
        self.say("heal").map(drop)
    }

    /// The power is gone: nothing works, and what has not ended yet fails.
    pub fn switch_off(&self) -> Result<()> {
        self.say("off").map(drop)
    }

    /// The power is back: what was not synced is forgotten, with seed 0 all of it, else as the seed has it. Nothing that used
    /// the disk may run. Answers what is gone.
    pub fn cut(&self, seed: u64) -> Result<String> {
        self.say(&format!("cut {seed}"))
    }

    /// Flips a bit in one file, seen at once and for ever. Answers where.
    pub fn flip(&self, pattern: &str, seed: u64) -> Result<String> {
        self.say(&format!("flip {pattern} 1 {seed}"))
    }

    /// Flips a bit in each block of one part, in percent, of all large files. Answers where.
    pub fn rot(&self, pattern: &str, percent: Range<u64>) -> Result<String> {
        self.say(&format!("rot {pattern} {} {}", percent.start, percent.end))
    }

    /// The files that fit now.
    pub fn files(&self, pattern: &str) -> Result<Vec<String>> {
        let said = self.say(&format!("files {pattern}"))?;
        Ok(said.split_whitespace().map(str::to_owned).collect())
    }

    /// What [`Disk::grow_old`] gives back.
    pub fn remember(&self) -> Result<()> {
        self.say("remember").map(drop)
    }

    /// A block of one file is again what it was. Answers where.
    pub fn grow_old(&self, pattern: &str, seed: u64) -> Result<String> {
        self.say(&format!("old {pattern} {seed}"))
    }

    /// Bytes of all files.
    pub fn used(&self) -> Result<u64> {
        let said = self.say("used")?;
        let bytes = said.split(' ').next().unwrap_or_default();
        bytes.parse().with_context(|| said.clone())
    }

    /// How often one fault has struck, as in `sync slow`.
    pub fn times(&self, what: &str) -> Result<u64> {
        let said = self.struck()?;
        let mut each = said.split("; ").filter_map(|one| one.strip_prefix(what));
        let Some(rest) = each.next() else {
            return Ok(0);
        };
        let times = rest.split_whitespace().next().unwrap_or_default();
        times.parse().with_context(|| said.clone())
    }

    /// How often which fault has struck, and what it hit last.
    pub fn struck(&self) -> Result<String> {
        self.say("struck")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let talk = self.talk.get_mut();
        // It unmounts and ends when its input does.
        drop(talk.commands.take());
        let _ = talk.child.wait();
    }
}
