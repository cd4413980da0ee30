//! Puts a snapshot that arrives in chunks on disk and checks it; nothing is believed before that.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use parlance_proto::raft::v1::SnapshotChunk;
use parlance_proto::store::v1::SnapshotManifest;
use tokio::sync::mpsc;

use super::snapshot::{SnapshotFiles, SnapshotFolder};
use crate::store::ExportedFile;

/// Receives a snapshot into a new folder, and removes that again if it is not whole. Blocks.
pub(super) fn receive(
    folder: &SnapshotFolder,
    manifest: SnapshotManifest,
    chunks: mpsc::Receiver<SnapshotChunk>,
) -> io::Result<SnapshotFiles> {
    let dir = folder.new_dir("received")?;
    let files = SnapshotFiles {
        dir: dir.clone(),
        manifest,
    };
    // Malformed manifests are found before anything is written.
    let received = files
        .meta()
        .and_then(|_| write_files(&dir, &files.files()?, chunks));
    match received {
        Ok(()) => folder.finish(dir, files.manifest),
        Err(e) => {
            let _ = std::fs::remove_dir_all(&dir);
            Err(e)
        }
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

fn write_files(
    dir: &Path,
    expected: &[ExportedFile],
    mut chunks: mpsc::Receiver<SnapshotChunk>,
) -> io::Result<()> {
    for (number, wanted) in expected.iter().enumerate() {
        let mut file = File::create(dir.join(&wanted.name))?;
        let (mut size, mut crc) = (0u64, 0u32);
        while size < wanted.size_bytes {
            let chunk = match chunks.blocking_recv() {
                Some(chunk) => chunk,
                None => return Err(invalid("the snapshot ended before it was whole")),
            };
            if chunk.file as usize != number || chunk.offset != size || chunk.data.is_empty() {
                return Err(invalid("a snapshot chunk is out of order"));
            }
            size += chunk.data.len() as u64;
            crc = crc32c::crc32c_append(crc, &chunk.data);
            file.write_all(&chunk.data)?;
        }
        if size != wanted.size_bytes || crc != wanted.crc32c {
            return Err(invalid("a snapshot file arrived damaged"));
        }
        file.sync_all()?;
    }
    match chunks.blocking_recv() {
        None => Ok(()),
        Some(_) => Err(invalid("the snapshot is longer than it said")),
    }
}
