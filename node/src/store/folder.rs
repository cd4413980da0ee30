//! Files and folders that are there after a power cut: a name is on the disk once its folder is synced, and not before.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// What is in them is for the node's own user: every message, and the secrets of all apps.
const PRIVATE: u32 = 0o700;
const OTHERS: u32 = 0o077;

/// Makes a folder with those above it that are missing, on disk on return.
pub fn make(dir: &Path) -> io::Result<()> {
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
    match above {
        Some(above) if !above.try_exists()? => make(above)?,
        _ => {}
    }
    let made = match DirBuilder::new().mode(PRIVATE).create(dir) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::AlreadyExists && dir.is_dir() => false,
        Err(e) => return Err(e),
    };
    // One that is there may have been made by a process that did not get as far as this.
    match sync(above.unwrap_or(Path::new("."))) {
        // Whoever made it could, or will; this process may not even read the folder above.
        Err(e) if !made && e.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Closes a folder that is there to others. If it is not ours, as when somebody else mounted it, the log says so: what is
/// made inside is private all the same.
pub fn close_to_others(dir: &Path) -> io::Result<()> {
    let mode = fs::metadata(dir)?.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let mode = format!("{:o}", mode & 0o7777);
    match fs::set_permissions(dir, fs::Permissions::from_mode(PRIVATE)) {
        Ok(()) => {
            tracing::warn!(dir = %dir.display(), mode, "others could enter the folder: it is closed to them now");
        }
        Err(error) => {
            tracing::warn!(dir = %dir.display(), mode, %error, "others can enter the folder, and that cannot be changed");
        }
    }
    Ok(())
}

/// The names in a folder are on disk on return.
pub fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a file of these parts, or replaces it: whole or not at all, and on disk on return.
pub fn replace(dir: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    sync(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_and_one_that_was_open_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let (new, open) = (dir.path().join("new/deeper"), dir.path().join("open"));
        make(&new).unwrap();
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        close_to_others(&open).unwrap();
        for path in [&new, &open] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, PRIVATE, "{}", path.display());
        }
    }

    #[test]
    fn folders_are_made_once_and_files_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        make(&deep).unwrap();
        make(&deep).unwrap();
        replace(&deep, "file", &[b"longer", b" than the next"]).unwrap();
        replace(&deep, "file", &[b"next"]).unwrap();
        assert_eq!(fs::read(deep.join("file")).unwrap(), b"next");
        assert!(!deep.join("file.new").exists());
        assert!(make(&deep.join("file")).is_err());
    }
}
