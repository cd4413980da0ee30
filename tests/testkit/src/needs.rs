//! What tests need and a machine may not have: without it they are skipped and say so. In CI it must be there.

use anyhow::{Result, bail};

/// What was found; if it was not, that is said with the reason, and is a failure in CI.
pub fn found<T>(what: &str, found: Result<T, String>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(reason) if std::env::var_os("CI").is_some_and(|ci| ci == "true") => {
            bail!("there is no {what}: {reason}")
        }
        Err(reason) => {
            eprintln!("skipped, since there is no {what}: {reason}");
            Ok(None)
        }
    }
}
