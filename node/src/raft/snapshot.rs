//! The snapshots of one group on disk: `snapshots/<group>/<id>/`, table files and a checksummed manifest.
//!
//! A folder counts once its manifest is in it, which is written last; whatever else lies around is removed at the
//! next start. While a snapshot replaces the group's rows, the file `INSTALLING` names it: a crash in between is
//! mended by importing the same files again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::{RaftSnapshotBuilder, Snapshot};
use parlance_proto::shard::Group;
use parlance_proto::store::v1::{AppliedState, SnapshotFile, SnapshotManifest};
use prost::Message;

use super::convert;
use super::metrics;
use super::types::{SnapshotMeta, TypeConfig};
use crate::store::{ExportedFile, StateStore, StoreError, Table, key};

const MANIFEST: &str = "MANIFEST";
const INSTALLING: &str = "INSTALLING";
const FORMAT: u32 = 2;

/// A finished snapshot on this node's disk.
#[derive(Debug, Clone)]
pub struct SnapshotFiles {
    /// Its folder.
    pub dir: PathBuf,
    /// What it is of, and its files.
    pub manifest: SnapshotManifest,
}

impl SnapshotFiles {
    pub(super) fn meta(&self) -> io::Result<SnapshotMeta> {
        let state = self
            .manifest
            .state
            .as_ref()
            .ok_or_else(|| invalid("snapshot without state"))?;
        Ok(SnapshotMeta {
            last_log_id: state.applied.as_ref().map(convert::to_log_id),
            last_membership: convert::to_stored_membership(state).map_err(|e| invalid(e.0))?,
        })
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.size_bytes).sum()
    }

    /// The files as the state store takes them; their names are checked, they may have come from outside.
    pub(super) fn files(&self) -> io::Result<Vec<ExportedFile>> {
        self.manifest.files.iter().map(exported).collect()
    }

    /// Reads every file and compares it with the manifest.
    pub(super) fn verify(&self) -> io::Result<()> {
        for file in self.files()? {
            let found = crate::store::rocks::checksum(&self.dir.join(&file.name))
                .map_err(io::Error::other)?;
            if found != (file.size_bytes, file.crc32c) {
                return Err(invalid(&format!("snapshot file {} is damaged", file.name)));
            }
        }
        Ok(())
    }

    fn has_right_sizes(&self) -> bool {
        self.files().is_ok_and(|files| {
            files.iter().all(|f| {
                fs::metadata(self.dir.join(&f.name)).is_ok_and(|m| m.len() == f.size_bytes)
            })
        })
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

fn exported(file: &SnapshotFile) -> io::Result<ExportedFile> {
    let table =
        Table::by_name(&file.table).ok_or_else(|| invalid("snapshot of an unknown table"))?;
    if file.name != format!("{}.sst", file.table) {
        return Err(invalid("snapshot file with an unknown name"));
    }
    Ok(ExportedFile {
        table,
        name: file.name.clone(),
        size_bytes: file.size_bytes,
        crc32c: file.crc32c,
    })
}

/// The folder of one group's snapshots.
#[derive(Debug, Clone)]
pub struct SnapshotFolder {
    group: Group,
    dir: PathBuf,
}

impl SnapshotFolder {
    /// Makes the folder if it is missing.
    pub fn open(data_dir: &Path, group: Group) -> io::Result<Self> {
        let dir = data_dir.join("snapshots").join(group.to_string());
        fs::create_dir_all(&dir)?;
        Ok(Self { group, dir })
    }

    /// A folder, not there yet, for a snapshot that is being built or received.
    pub(super) fn new_dir(&self, prefix: &str) -> io::Result<PathBuf> {
        for number in 0u32.. {
            let dir = self.dir.join(format!("{prefix}-{number}"));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(dir),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other("too many snapshot folders"))
    }

    /// The newest finished snapshot; damaged ones are removed, they can be made again.
    pub(super) fn newest(&self) -> io::Result<Option<SnapshotFiles>> {
        let mut newest: Option<(Option<u64>, SnapshotFiles)> = None;
        for entry in fs::read_dir(&self.dir)? {
            let dir = entry?.path();
            if !dir.join(MANIFEST).exists() {
                continue;
            }
            match self.load(&dir).and_then(|files| Ok((files.meta()?, files))) {
                // A newer one took its place in the meantime.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Ok((meta, files)) if files.has_right_sizes() => {
                    let index = meta.last_log_id.map(|id| id.index);
                    if newest.as_ref().is_none_or(|(best, _)| index >= *best) {
                        newest = Some((index, files));
                    }
                }
                _ if !dir.join(MANIFEST).exists() => {}
                _ => self.discard(&dir)?,
            }
        }
        Ok(newest.map(|(_, files)| files))
    }

    pub(super) fn discard(&self, dir: &Path) -> io::Result<()> {
        tracing::warn!(group = self.group, dir = %dir.display(), "a damaged snapshot is removed: it will be made again");
        metrics::snapshot("damaged", 0);
        remove_dir(dir)
    }

    fn load(&self, dir: &Path) -> io::Result<SnapshotFiles> {
        let bytes = fs::read(dir.join(MANIFEST))?;
        let (checksum, body) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| invalid("manifest cut off"))?;
        if u32::from_be_bytes(*checksum) != crc32c::crc32c(body) {
            return Err(invalid("manifest with a bad checksum"));
        }
        let manifest =
            SnapshotManifest::decode(body).map_err(|_| invalid("manifest cannot be decoded"))?;
        if manifest.format != FORMAT || manifest.group != self.group {
            return Err(invalid("manifest of another format or group"));
        }
        Ok(SnapshotFiles {
            dir: dir.to_owned(),
            manifest,
        })
    }

    /// Writes the manifest: from now on the folder is a snapshot.
    pub(super) fn finish(
        &self,
        dir: PathBuf,
        manifest: SnapshotManifest,
    ) -> io::Result<SnapshotFiles> {
        write_checked(&dir, MANIFEST, &manifest.encode_to_vec())?;
        Ok(SnapshotFiles { dir, manifest })
    }

    /// Removes finished snapshots other than `keep`. Those that are being built or received stay.
    pub(super) fn keep_only(&self, keep: &Path) -> io::Result<()> {
        self.remove(|dir| dir != keep && dir.join(MANIFEST).exists())
    }

    /// After a start: removes what was being built or received.
    pub(super) fn remove_unfinished(&self) -> io::Result<()> {
        self.remove(|dir| !dir.join(MANIFEST).exists())
    }

    fn remove(&self, unwanted: impl Fn(&Path) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.is_dir() && unwanted(&path) {
                // Only finished while its manifest is there, which goes first.
                unless_gone(fs::remove_file(path.join(MANIFEST)))?;
                remove_dir(&path)?;
            }
        }
        Ok(())
    }

    /// Takes a snapshot whose files are elsewhere into this folder.
    pub(super) fn adopt(&self, files: SnapshotFiles) -> io::Result<SnapshotFiles> {
        if files.dir.parent() == Some(self.dir.as_path()) {
            return Ok(files);
        }
        let dir = self.new_dir("adopted")?;
        for file in files.files()? {
            fs::copy(files.dir.join(&file.name), dir.join(&file.name))?;
            File::open(dir.join(&file.name))?.sync_all()?;
        }
        self.finish(dir, files.manifest)
    }

    /// Replaces the group's rows by a snapshot's; mended by [`SnapshotFolder::finish_install`] if it is cut short.
    pub(super) fn install(&self, store: &dyn StateStore, files: &SnapshotFiles) -> io::Result<()> {
        files.verify()?;
        let name = files
            .dir
            .file_name()
            .ok_or_else(|| invalid("snapshot without a folder name"))?;
        write_checked(&self.dir, INSTALLING, name.as_encoded_bytes())?;
        self.import(store, files)
    }

    fn import(&self, store: &dyn StateStore, files: &SnapshotFiles) -> io::Result<()> {
        store
            .import(self.group, &files.dir, &files.files()?)
            .map_err(io::Error::other)?;
        fs::remove_file(self.dir.join(INSTALLING))?;
        sync_dir(&self.dir)?;
        metrics::snapshot("installed", files.size_bytes());
        Ok(())
    }

    /// After a start: does the rest of an installation that was cut short; answers whether there was one.
    pub(super) fn finish_install(&self, store: &dyn StateStore) -> io::Result<bool> {
        let bytes = match fs::read(self.dir.join(INSTALLING)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let unfinished = |e: String| {
            invalid(&format!(
                "a snapshot was half-installed and cannot be finished: {e}"
            ))
        };
        let name = bytes
            .split_first_chunk::<4>()
            .filter(|(checksum, name)| u32::from_be_bytes(**checksum) == crc32c::crc32c(name))
            .and_then(|(_, name)| std::str::from_utf8(name).ok())
            .filter(|name| !name.contains(['/', '.']))
            .ok_or_else(|| unfinished("its marker is damaged".to_owned()))?;
        let files = self
            .load(&self.dir.join(name))
            .map_err(|e| unfinished(e.to_string()))?;
        files.verify().map_err(|e| unfinished(e.to_string()))?;
        tracing::warn!(
            group = self.group,
            "a snapshot was half-installed: doing it again"
        );
        self.import(store, &files)?;
        Ok(true)
    }
}

/// What another task has removed in the meantime is removed.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    unless_gone(fs::remove_dir_all(dir))
}

fn write_checked(dir: &Path, name: &str, body: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(&crc32c::crc32c(body).to_be_bytes())?;
    file.write_all(body)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Builds snapshots of one group, on a thread that may block.
#[derive(Clone)]
pub struct SnapshotBuilder {
    pub(super) group: Group,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) folder: SnapshotFolder,
}

impl SnapshotBuilder {
    fn build(&self) -> io::Result<SnapshotFiles> {
        let dir = self.folder.new_dir("built")?;
        let mut state = None;
        let applied_key = key::applied_key(self.group);
        let exported = self.store.export(self.group, &dir, &mut |get| {
            state = get(Table::Meta, &applied_key)?;
            Ok(())
        });
        let exported = exported.map_err(io::Error::other)?;
        let state = AppliedState::decode(state.unwrap_or_default())
            .map_err(|e| StoreError::Damaged {
                what: "applied row".to_owned(),
                reason: e.to_string(),
            })
            .map_err(io::Error::other)?;
        let files = exported.into_iter().map(|file| SnapshotFile {
            table: file.table.name().to_owned(),
            name: file.name,
            size_bytes: file.size_bytes,
            crc32c: file.crc32c,
        });
        let manifest = SnapshotManifest {
            format: FORMAT,
            snapshot_id: dir
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            group: self.group,
            state: Some(state),
            files: files.collect(),
        };
        let files = self.folder.finish(dir, manifest)?;
        // The log is purged up to here next, by the group's own task, which should not wait for the disk.
        self.store.flush().map_err(io::Error::other)?;
        metrics::snapshot("built", files.size_bytes());
        if let Some(newest) = self.folder.newest()? {
            self.folder.keep_only(&newest.dir)?;
        }
        Ok(files)
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFiles;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<
        Snapshot<
            openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>,
            u64,
            openraft::EmptyNode,
            SnapshotFiles,
        >,
    > {
        let builder = self.clone();
        let files = tokio::task::spawn_blocking(move || builder.build())
            .await
            .map_err(io::Error::other)??;
        Ok(Snapshot {
            meta: files.meta()?,
            snapshot: files,
        })
    }
}
