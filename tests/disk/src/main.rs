//! `parlance-disk FOLDER`: mounts a disk that can be made to fail, and takes commands from its standard input until that
//! ends. What is on the disk is in memory, and gone afterwards.
//!
//! Says `ready` once it is mounted. Needs /dev/fuse and the right to mount.

mod command;
mod content;
mod damage;
mod disk;
mod mount;
mod power;
mod rules;

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};

use disk::Disk;
use mount::Shared;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        anyhow::bail!("usage: parlance-disk FOLDER");
    };
    let shared = Arc::new(Shared::new(Disk::new(SystemTime::now)));
    let session = mount::mount(shared.clone(), &folder)
        .with_context(|| format!("mount {}", folder.display()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        match command::obey(&shared, &line?) {
            Ok(said) => writeln!(out, "ok {said}")?,
            Err(error) => writeln!(out, "error {error:#}")?,
        }
        out.flush()?;
    }
    shared.heal();
    mount::unmount(&folder)?;
    drop(session);
    Ok(())
}
