//! Where this program keeps files of its own, and how it writes those that others must not read.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// `parlance` in the XDG config folder.
pub fn config_home() -> anyhow::Result<PathBuf> {
    xdg("XDG_CONFIG_HOME", ".config")
}

/// `parlance` in the XDG data folder.
pub fn data_home() -> anyhow::Result<PathBuf> {
    xdg("XDG_DATA_HOME", ".local/share")
}

/// `parlance` in the XDG state folder.
pub fn state_home() -> anyhow::Result<PathBuf> {
    xdg("XDG_STATE_HOME", ".local/state")
}

/// `parlance` in the XDG runtime folder, which not every system has.
pub fn runtime_home() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    (dir.is_absolute() && dir.is_dir()).then(|| dir.join("parlance"))
}

fn xdg(variable: &str, below_home: &str) -> anyhow::Result<PathBuf> {
    // A relative path is to be ignored (XDG Base Directory Specification).
    let set = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = match set {
        Some(base) => base,
        None => std::env::home_dir()
            .filter(|home| home.is_absolute())
            .with_context(|| format!("find the home folder: set HOME or {variable}"))?
            .join(below_home),
    };
    Ok(base.join("parlance"))
}

/// Makes a folder that only this user may enter, with its parents.
pub fn create_private_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("create folder {}", dir.display()))
}

/// Writes a file that only this user may read, in one step, with its folder.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

/// Writes a file that everybody may read, in one step, with its folder.
pub fn write_public(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, 0o644)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        create_private_dir(dir)?;
    }
    // Beside the file, so that the rename stays on one file system; the pid keeps two writers apart.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn private_files_are_private_and_replaced_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/key.pem");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            std::fs::metadata(dir.path().join("a"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        assert_eq!(
            std::fs::read_dir(dir.path().join("a/b")).unwrap().count(),
            1
        );
    }
}
