//! One real process: started, signalled, waited for, its output kept; it never outlives the test.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::crash;
use crate::logs;
use crate::wait::until;

/// A build of the program under test, and the variables that it is started with.
#[derive(Debug, Clone)]
pub struct Program {
    pub binary: PathBuf,
    pub environment: Vec<(String, String)>,
}

/// How a process is started, as often as it takes.
pub struct Process {
    /// As in `node-1`.
    pub name: String,
    program: Program,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    /// How it crashed, until somebody asks.
    crashes: Vec<String>,
}

impl Process {
    /// Nothing runs yet. All output goes to `log`, one start after the other.
    pub fn new(name: &str, program: Program, arguments: Vec<String>, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            program,
            arguments,
            log,
            child: None,
            crashes: Vec::new(),
        }
    }

    /// From its next start on it is this program.
    pub fn becomes(&mut self, program: &Program) {
        self.program = program.clone();
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it.
    pub fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} runs already", self.name);
        }
        crash::allow_cores();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let child = self
            .command(log)?
            .spawn()
            .with_context(|| format!("start {}", self.program.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// `setpriv` makes the kernel kill the process when this program dies, however it dies.
    fn command(&self, log: File) -> Result<Command> {
        let binary = std::path::absolute(&self.program.binary)?;
        let mut command = if Path::new(SETPRIV).exists() {
            let mut command = Command::new(SETPRIV);
            command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
            command
        } else {
            Command::new(binary)
        };
        // There its core goes, if it crashes.
        if let Some(dir) = self.log.parent() {
            command.current_dir(dir);
        }
        command
            .args(&self.arguments)
            .envs(self.program.environment.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it did since it was started.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let (pid, status) = (child.id(), child.try_wait()?);
        if let Some(status) = status {
            self.child = None;
            self.has_ended_with(pid, status);
        }
        Ok(status)
    }

    fn has_ended_with(&mut self, pid: u32, status: ExitStatus) {
        if !crash::is_crash(status) {
            return;
        }
        let dir = self.log.parent().unwrap_or(Path::new("."));
        let core = match crash::keep_core(dir, &self.name, pid) {
            Ok(Some(core)) => format!("; its core is {}", core.display()),
            Ok(None) => String::new(),
            Err(error) => format!("; its core could not be kept: {error:#}"),
        };
        self.crashes
            .push(format!("{} ended with {status}{core}", self.name));
    }

    /// How it crashed since this was last asked: ended by a signal that nobody here sends.
    pub fn crashes(&mut self) -> Result<Vec<String>> {
        self.ended()?;
        Ok(std::mem::take(&mut self.crashes))
    }

    /// Whether it has ended, without noticing it: [`Process::ended`] still tells how.
    pub fn has_ended(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(true),
        }
    }

    /// True from [`Process::start`] until its end was noticed.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// `kill -9`: no code of it runs any more, but it may still wait for a disk.
    pub fn begin_to_kill(&mut self) -> Result<()> {
        self.child
            .as_mut()
            .map_or(Ok(()), |child| Ok(child.kill()?))
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            let status = child.wait()?;
            self.has_ended_with(child.id(), status);
        }
        Ok(())
    }

    /// SIGTERM, and waits for a clean end.
    pub async fn stop(&mut self, within: Duration) -> Result<()> {
        self.begin_to_stop()?;
        self.has_stopped(within).await
    }

    /// SIGTERM.
    pub fn begin_to_stop(&self) -> Result<()> {
        self.signal(Signal::TERM).map(drop)
    }

    /// Waits for the clean end of a process that was asked to stop.
    pub async fn has_stopped(&mut self, within: Duration) -> Result<()> {
        let status = self.wait_for_end(within).await?;
        if !status.success() {
            bail!("{} was asked to stop and ended with {status}", self.name);
        }
        Ok(())
    }

    /// Waits for its end, whatever it is.
    pub async fn wait_for_end(&mut self, within: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        until(&format!("{name} ends"), within, async || {
            self.ended()?.ok_or_else(|| anyhow!("it still runs"))
        })
        .await
    }

    /// SIGSTOP: it keeps its sockets and says nothing. Returns once all its threads stand still: on a busy machine some
    /// of them run on for milliseconds after the signal.
    pub fn freeze(&self) -> Result<()> {
        let pid = self.signal(Signal::STOP)?;
        // NOWAIT: an end that comes instead is for `ended` to find.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), stopped).with_context(|| format!("freeze {}", self.name))?;
        Ok(())
    }

    /// SIGHUP.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP).map(drop)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT).map(drop)
    }

    /// To stop it and let it go on from elsewhere, as long as it is not started again.
    pub fn brake(&self) -> Result<Brake> {
        let pid = self.pid().context("it does not run")?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("no process has this id")?;
        Ok(Brake(pid))
    }

    fn signal(&self, signal: Signal) -> Result<Pid> {
        let Brake(pid) = self
            .brake()
            .with_context(|| format!("signal {}", self.name))?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))?;
        Ok(pid)
    }

    /// The last lines of its output, without the frames of backtraces.
    pub fn tail(&self, lines: usize) -> String {
        let text = logs::read(&self.log).unwrap_or_default();
        let all: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("    ") && !is_frame(line))
            .collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// `  12: some::function`
fn is_frame(line: &str) -> bool {
    line.trim_start()
        .split_once(": ")
        .is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

/// Of one run of a process.
#[derive(Debug, Clone, Copy)]
pub struct Brake(Pid);

impl Brake {
    /// SIGSTOP.
    pub fn hold(self) -> Result<()> {
        Ok(kill_process(self.0, Signal::STOP)?)
    }

    /// SIGCONT.
    pub fn let_go(self) -> Result<()> {
        Ok(kill_process(self.0, Signal::CONT)?)
    }
}

const SETPRIV: &str = "/usr/bin/setpriv";

impl Drop for Process {
    fn drop(&mut self) {
        // A failure here means that it is gone already.
        let _ = self.kill();
        // No test passes over a crash, whatever it looked for.
        assert!(
            self.crashes.is_empty() || std::thread::panicking(),
            "{}",
            self.crashes.join("\n")
        );
    }
}
