//! Who a data directory belongs to: cluster, node and the directory itself.
//!
//! Written once, when a node becomes a member, and checked at every start. A node whose directory is lost never
//! comes back as its old self: an empty directory waits for an invitation under a new node id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parlance_proto::store::v1::Identity;
use prost::Message;

use crate::store::folder;

/// Bumped when the layout of a data directory changes.
pub const FORMAT: u32 = 1;

const FILE: &str = "IDENTITY";
/// There while a node becomes a member: until the identity is written, what is beside this file was never anybody's.
const JOINING: &str = "JOINING";
/// Locked by the process that has the directory.
const LOCK: &str = "LOCK";
/// Folders of a data directory.
const FOLDERS: [&str; 3] = ["log", "state", "snapshots"];

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The identity file is cut off or changed.
    #[error(
        "{path} is damaged ({reason}): this node does not start, so that it cannot vote as somebody else. Keep the \
         directory for inspection and bring in a new member in its place: parlance node replace"
    )]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is data, but no identity.
    #[error(
        "{dir} holds data but no IDENTITY file: the directory is damaged. Keep it for inspection and bring in a new \
         member in its place: parlance node replace"
    )]
    Missing {
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory is another node's.
    #[error("{dir} belongs to node {found}, but the settings say node_id = {configured}")]
    OtherNode {
        /// The data directory.
        dir: PathBuf,
        /// By its identity.
        found: u64,
        /// By the settings.
        configured: u64,
    },
    /// Another process has the directory.
    #[error("{dir} is in use by another process")]
    InUse {
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory is of another version.
    #[error(
        "{dir} has format {found}, this version needs {FORMAT}: start the version that made it"
    )]
    OtherFormat {
        /// The data directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> IdentityError + '_ {
    move |source| IdentityError::File {
        path: path.to_owned(),
        source,
    }
}

/// Takes the directory for this process, which makes it if need be, until the answer is dropped.
pub fn lock(dir: &Path) -> Result<File, IdentityError> {
    folder::make(dir).map_err(file_error(dir))?;
    folder::close_to_others(dir).map_err(file_error(dir))?;
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(file_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(IdentityError::InUse {
            dir: dir.to_owned(),
        }),
        Err(fs::TryLockError::Error(e)) => Err(file_error(&path)(e)),
    }
}

/// Reads and checks the identity; none if the directory is empty or not there. What a node left that was killed while
/// it became a member is removed.
pub fn read(dir: &Path, node_id: u64) -> Result<Option<Identity>, IdentityError> {
    let path = dir.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => {
            joined(dir)?;
            bytes
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return if dir.join(JOINING).exists() {
                clear(dir).map(|()| None)
            } else if has_data(dir)? {
                Err(IdentityError::Missing {
                    dir: dir.to_owned(),
                })
            } else {
                Ok(None)
            };
        }
        Err(e) => return Err(file_error(&path)(e)),
    };
    let damaged = |reason: &str| IdentityError::Damaged {
        path: path.clone(),
        reason: reason.to_owned(),
    };
    let (checksum, body) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| damaged("too short"))?;
    if u32::from_be_bytes(*checksum) != crc32c::crc32c(body) {
        return Err(damaged("bad checksum"));
    }
    let identity = Identity::decode(body).map_err(|_| damaged("cannot be decoded"))?;
    if identity.format != FORMAT {
        return Err(IdentityError::OtherFormat {
            dir: dir.to_owned(),
            found: identity.format,
        });
    }
    if identity.node_id != node_id {
        let (found, configured) = (identity.node_id, node_id);
        return Err(IdentityError::OtherNode {
            dir: dir.to_owned(),
            found,
            configured,
        });
    }
    Ok(Some(identity))
}

fn has_data(dir: &Path) -> Result<bool, IdentityError> {
    for name in FOLDERS {
        let path = dir.join(name);
        if path.try_exists().map_err(file_error(&path))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The node is about to make its data directory. Ends with [`write`]; what an attempt before this one left is removed.
pub fn begin(dir: &Path) -> Result<(), IdentityError> {
    folder::make(dir).map_err(file_error(dir))?;
    if dir.join(JOINING).exists() {
        clear(dir)?;
    } else if has_data(dir)? {
        return Err(IdentityError::Missing {
            dir: dir.to_owned(),
        });
    }
    let path = dir.join(JOINING);
    File::create(&path).map_err(file_error(&path))?;
    sync(dir)
}

/// Removes what a node made that never became a member.
fn clear(dir: &Path) -> Result<(), IdentityError> {
    for name in FOLDERS {
        let path = dir.join(name);
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(file_error(&path)(e)),
            _ => {}
        }
    }
    joined(dir)
}

/// From here on the directory's content counts.
fn joined(dir: &Path) -> Result<(), IdentityError> {
    let path = dir.join(JOINING);
    match fs::remove_file(&path) {
        Ok(()) => sync(dir),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(file_error(&path)(e)),
    }
}

fn sync(dir: &Path) -> Result<(), IdentityError> {
    folder::sync(dir).map_err(file_error(dir))
}

/// Writes the identity, durable on return. Whole or not at all.
pub fn write(dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let body = identity.encode_to_vec();
    let checksum = crc32c::crc32c(&body).to_be_bytes();
    folder::replace(dir, FILE, &[&checksum, &body]).map_err(file_error(&dir.join(FILE)))?;
    joined(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster_id: "c".into(),
            node_id: 3,
            store_id: "s".into(),
            format: FORMAT,
        }
    }

    #[test]
    fn a_directory_of_a_node_that_never_became_a_member_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let half_made = || {
            begin(dir.path()).unwrap();
            fs::create_dir_all(dir.path().join("state/deeper")).unwrap();
        };
        half_made();
        assert_eq!(read(dir.path(), 3).unwrap(), None);
        assert!(!dir.path().join("state").exists());
        half_made();
        write(dir.path(), &identity()).unwrap();
        assert_eq!(read(dir.path(), 3).unwrap(), Some(identity()));
        fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(
            matches!(read(dir.path(), 3), Err(IdentityError::Missing { .. })),
            "what a member had is never removed"
        );
        assert!(dir.path().join("state/deeper").exists());
    }

    #[test]
    fn a_directory_has_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(IdentityError::InUse { .. })));
        drop(held);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn an_identity_is_read_back_and_another_nodes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            read(dir.path(), 3).unwrap().is_none(),
            "an empty directory has none"
        );
        write(dir.path(), &identity()).unwrap();
        assert_eq!(read(dir.path(), 3).unwrap(), Some(identity()));
        assert!(matches!(
            read(dir.path(), 4),
            Err(IdentityError::OtherNode {
                found: 3,
                configured: 4,
                ..
            })
        ));
    }

    #[test]
    fn a_directory_of_another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for format in [FORMAT - 1, FORMAT + 1] {
            let other = Identity {
                format,
                ..identity()
            };
            write(dir.path(), &other).unwrap();
            assert!(matches!(
                read(dir.path(), 3),
                Err(IdentityError::OtherFormat { found, .. }) if found == format
            ));
        }
    }

    #[test]
    fn a_cut_or_changed_file_and_data_without_one_are_damage() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &identity()).unwrap();
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(
                matches!(read(dir.path(), 3), Err(IdentityError::Damaged { .. })),
                "{length} bytes"
            );
        }
        let mut flipped = whole.clone();
        flipped[7] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert!(matches!(
            read(dir.path(), 3),
            Err(IdentityError::Damaged { .. })
        ));
        fs::remove_file(&path).unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        assert!(matches!(
            read(dir.path(), 3),
            Err(IdentityError::Missing { .. })
        ));
    }
}
