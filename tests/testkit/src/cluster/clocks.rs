//! Clocks of single processes, in our hands: a small library that is loaded before theirs adds an offset, read from a file, to
//! what the system says is the time of day. The monotonic clock goes on as it is.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const SOURCE: &str = include_str!("clocks.c");
const OFFSET_FILE: &str = "PARLANCE_TEST_CLOCK_OFFSET_FILE";

/// The clocks of a cluster's processes.
pub struct Clocks {
    library: PathBuf,
    dir: PathBuf,
    offsets: BTreeMap<String, File>,
}

impl Clocks {
    /// Builds the library in a directory. Needs a C compiler, as the build of the program does.
    pub fn build(dir: &Path) -> Result<Self> {
        let (source, library) = (dir.join("clocks.c"), dir.join("libclocks.so"));
        std::fs::write(&source, SOURCE)?;
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&library, &source])
            .output()
            .context("run the C compiler")?;
        if !built.status.success() {
            bail!("{}", String::from_utf8_lossy(&built.stderr));
        }
        Ok(Self {
            library,
            dir: dir.to_owned(),
            offsets: BTreeMap::new(),
        })
    }

    /// The variables that give a process a clock of its own.
    pub fn give(&mut self, process: &str) -> Result<Vec<(String, String)>> {
        let path = self.dir.join(format!("{process}.clock"));
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(true)
            .write(true)
            .open(&path)?;
        file.write_all_at(&[0; 8], 0)?;
        self.offsets.insert(process.to_owned(), file);
        Ok(vec![
            ("LD_PRELOAD".to_owned(), self.library.display().to_string()),
            (OFFSET_FILE.to_owned(), path.display().to_string()),
        ])
    }

    /// The hand of a process's clock.
    pub fn hand(&self, process: &str) -> Result<Hand> {
        let file = self.offsets.get(process);
        let file = file.with_context(|| format!("{process} has no clock of its own"))?;
        Ok(Hand(file.try_clone()?))
    }
}

/// Sets one clock.
pub struct Hand(File);

impl Hand {
    /// From now on the clock is so far ahead of the true one, or behind it.
    pub fn set(&self, offset_ms: i64) -> Result<()> {
        Ok(self.0.write_all_at(&offset_ms.to_ne_bytes(), 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::unix_seconds;

    #[test]
    fn a_process_reads_the_clock_that_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let mut clocks = Clocks::build(dir.path()).unwrap();
        let variables = clocks.give("it").unwrap();
        let says = || {
            let date = Command::new("date")
                .arg("+%s")
                .envs(variables.clone())
                .output();
            let text = String::from_utf8(date.unwrap().stdout).unwrap();
            text.trim().parse::<i64>().unwrap() - unix_seconds()
        };
        assert!(says().abs() < 10);
        let hand = clocks.hand("it").unwrap();
        hand.set(48 * 3_600_000).unwrap();
        assert!((says() - 48 * 3600).abs() < 10);
        hand.set(-3_600_000).unwrap();
        assert!((says() + 3600).abs() < 10);
        hand.set(0).unwrap();
        assert!(says().abs() < 10);
    }
}
