//! Received rows on disk: `snapshots/<shard>/received-<number>/`, until they are in the store.
//!
//! While they replace the shard's rows, the file `INSTALLING` names them: a crash in between is mended at the next start by
//! doing it again. Whatever else lies around then is removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlance_proto::ids::ShardId;
use parlance_proto::store::v1::{SnapshotFile, SnapshotInstall};
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::metrics;
use super::retry::until_it_works;
use super::snapshot::{invalid, range, to_range};
use super::types::SnapshotMeta;
use crate::sabotage::{CrashPoint, crash_point};
use crate::store::{RowFile, RowRange, StateStore, Table, folder};

const INSTALLING: &str = "INSTALLING";

/// Rows from a leader, in files. The folder goes when this is dropped, unless it is being installed.
pub struct ReceivedRows {
    pub(super) meta: SnapshotMeta,
    /// Where all the rows are.
    pub(super) ranges: Vec<RowRange>,
    pub(super) dir: PathBuf,
    pub(super) files: Vec<RowFile>,
    keep: bool,
}

impl Drop for ReceivedRows {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "received rows could not be removed");
        }
    }
}

/// The folder for one shard's received rows.
#[derive(Debug, Clone)]
pub struct SnapshotFolder {
    shard: ShardId,
    dir: PathBuf,
}

impl SnapshotFolder {
    /// Makes the folder if it is missing.
    pub fn open(data_dir: &Path, shard: ShardId) -> io::Result<Self> {
        let dir = data_dir.join("snapshots").join(shard.to_string());
        folder::make(&dir)?;
        Ok(Self { shard, dir })
    }

    pub(super) fn new_received(
        &self,
        meta: SnapshotMeta,
        ranges: Vec<RowRange>,
    ) -> io::Result<ReceivedRows> {
        for number in 0u32.. {
            let dir = self.dir.join(format!("received-{number}"));
            match fs::create_dir(&dir) {
                Ok(()) => {
                    return Ok(ReceivedRows {
                        meta,
                        ranges,
                        dir,
                        files: Vec::new(),
                        keep: false,
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other("too many folders of received rows"))
    }

    /// Replaces the rows of `old` ranges and of the received ones by what was received. Once begun it goes on until it is
    /// done; if the replica stops meanwhile, the rest is done at the next start.
    pub(super) async fn install(
        &self,
        store: Arc<dyn StateStore>,
        mut received: ReceivedRows,
        old: &[RowRange],
        stop: &CancellationToken,
    ) -> io::Result<()> {
        let new = received.ranges.iter().filter(|range| !old.contains(range));
        let install = SnapshotInstall {
            folder: received
                .dir
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            replaced: old.iter().chain(new).map(range).collect(),
            files: received.files.iter().map(snapshot_file).collect(),
        };
        received.keep = true;
        let folder = self.clone();
        let work = move || {
            folder.begin(&install)?;
            crash_point(CrashPoint::InSnapshotInstall);
            folder.import(&*store, &install)
        };
        until_it_works("installing a snapshot", self.shard, stop, work)
            .await
            .ok_or_else(|| io::Error::other("stopped while a snapshot is installed"))??;
        received.keep = false;
        // Many large files, perhaps.
        let _ = tokio::task::spawn_blocking(move || drop(received)).await;
        Ok(())
    }

    /// From here on the next start finds what to do again, also after a power cut.
    fn begin(&self, install: &SnapshotInstall) -> io::Result<()> {
        let body = install.encode_to_vec();
        let checksum = crc32c::crc32c(&body).to_be_bytes();
        folder::replace(&self.dir, INSTALLING, &[&checksum, &body])?;
        // The folders above may be as new as the shard: `snapshots/` and the data directory name them.
        let above = self.dir.ancestors().skip(1).take(2);
        above.into_iter().try_for_each(folder::sync)
    }

    fn import(&self, store: &dyn StateStore, install: &SnapshotInstall) -> io::Result<()> {
        let ranges = install
            .replaced
            .iter()
            .map(to_range)
            .collect::<io::Result<Vec<_>>>()?;
        let files = install
            .files
            .iter()
            .map(row_file)
            .collect::<io::Result<Vec<_>>>()?;
        store
            .import(&ranges, &self.dir.join(&install.folder), &files)
            .map_err(io::Error::other)?;
        fs::remove_file(self.dir.join(INSTALLING))?;
        folder::sync(&self.dir)?;
        metrics::snapshot("installed");
        Ok(())
    }

    /// After a start: does the rest of an installation that was cut short, and removes all that was received. Answers
    /// whether there was an installation.
    pub(super) fn finish_install(&self, store: &dyn StateStore) -> io::Result<bool> {
        let unfinished = |e: String| {
            invalid(&format!(
                "a snapshot was half-installed and cannot be finished: {e}"
            ))
        };
        let cut_short = match fs::read(self.dir.join(INSTALLING)) {
            Ok(bytes) => {
                let install = marker(&bytes).map_err(|e| unfinished(e.to_string()))?;
                tracing::warn!(
                    shard = %self.shard,
                    "a snapshot was half-installed: doing it again"
                );
                self.check(&install)
                    .and_then(|()| self.import(store, &install))
                    .map_err(|e| unfinished(e.to_string()))?;
                true
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(e),
        };
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(cut_short)
    }

    fn check(&self, install: &SnapshotInstall) -> io::Result<()> {
        let dir = self.dir.join(&install.folder);
        for file in &install.files {
            row_file(file)?.verify(&dir).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

fn marker(bytes: &[u8]) -> io::Result<SnapshotInstall> {
    let body = bytes
        .split_first_chunk::<4>()
        .filter(|(checksum, body)| u32::from_be_bytes(**checksum) == crc32c::crc32c(body))
        .map(|(_, body)| body)
        .ok_or_else(|| invalid("its marker is damaged"))?;
    SnapshotInstall::decode(body).map_err(|e| invalid(&e.to_string()))
}

fn snapshot_file(file: &RowFile) -> SnapshotFile {
    SnapshotFile {
        table: file.table.name().to_owned(),
        name: file.name.clone(),
        size_bytes: file.size_bytes,
        crc32c: file.crc32c,
    }
}

fn row_file(file: &SnapshotFile) -> io::Result<RowFile> {
    let table = Table::by_name(&file.table).ok_or_else(|| invalid("rows of an unknown table"))?;
    Ok(RowFile {
        table,
        name: file.name.clone(),
        size_bytes: file.size_bytes,
        crc32c: file.crc32c,
    })
}
