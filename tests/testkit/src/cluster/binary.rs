//! Where the programs under test are.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::needs;

/// The build with switches for tests (feature `unsafe-test-switches`), if `$PARLANCE_BROKEN_BIN` names one.
pub fn with_switches() -> Option<PathBuf> {
    named_with_switches().ok()
}

/// The same, for what can do nothing without it. If it is not there that is said, and a failure in CI, where it must be.
pub fn needed_with_switches() -> Result<Option<PathBuf>> {
    needs::found("build with switches", named_with_switches())
}

fn named_with_switches() -> Result<PathBuf, String> {
    let Some(named) = std::env::var_os("PARLANCE_BROKEN_BIN").map(PathBuf::from) else {
        return Err("PARLANCE_BROKEN_BIN does not name one (make broken)".to_owned());
    };
    if !named.is_file() {
        let named = named.display();
        return Err(format!(
            "PARLANCE_BROKEN_BIN says {named}, which is no file"
        ));
    }
    Ok(named)
}

/// `$PARLANCE_BIN`, else the release build in the target directory.
pub fn find() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("PARLANCE_BIN") {
        let given = PathBuf::from(given);
        if !given.is_file() {
            bail!("PARLANCE_BIN says {}, which is not a file", given.display());
        }
        return Ok(given);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    let binary = target.join("release/parlance");
    if !binary.is_file() {
        bail!(
            "no program at {}: build it (make build) or say PARLANCE_BIN",
            binary.display()
        );
    }
    Ok(binary)
}
