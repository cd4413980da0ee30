//! Notices a RocksDB whose own records were cut.
//!
//! RocksDB takes a cut `MANIFEST` for an older database, and a missing `CURRENT` for a new one, and opens. A node must
//! not: it would forget rows, votes and entries. So a small file beside them says how far the manifest was on disk, and a
//! database that is behind it is refused. What was written and not synced is none of its business: a power cut may take it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::folder;

const FILE: &str = "PARLANCE-MARK";
/// A manifest that grows is written down this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Whether a database has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The node was a member before: a database that is missing is lost.
    Required,
    /// The node becomes a member now.
    No,
}

/// How far a manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    /// Its number, of `MANIFEST-<number>`; 0 before the database was opened for the first time.
    number: u64,
    bytes: u64,
}

/// Keeps the mark of one open database.
pub struct ManifestGuard {
    marker: Arc<Marker>,
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Marker {
    dir: PathBuf,
    written: Mutex<Option<Mark>>,
}

/// To be called before the database in `dir` is opened: says why it must not be.
pub fn check(dir: &Path, existing: Existing) -> Result<(), String> {
    let mark = read_mark(dir).map_err(|e| format!("{FILE} cannot be read: {e}"))?;
    let manifest = read_manifest(dir).map_err(|e| format!("its MANIFEST cannot be found: {e}"))?;
    match (mark, manifest) {
        (None, None) if existing == Existing::No => {
            folder::make(dir).map_err(|e| e.to_string())?;
            write_mark(
                dir,
                &Mark {
                    number: 0,
                    bytes: 0,
                },
            )
            .map_err(|e| e.to_string())
        }
        (None, None) => Err("the database is missing".to_owned()),
        (None, Some(_)) => Err(format!("{FILE} is missing")),
        (Some(mark), _) if mark.number == 0 => Ok(()),
        (Some(_), None) => Err("CURRENT is missing".to_owned()),
        (Some(mark), Some(manifest)) => {
            let behind = manifest.number < mark.number
                || (manifest.number == mark.number && manifest.bytes < mark.bytes);
            if behind {
                return Err(format!(
                    "its MANIFEST was cut: number {} with {} bytes, but it was number {} with {} bytes",
                    manifest.number, manifest.bytes, mark.number, mark.bytes
                ));
            }
            Ok(())
        }
    }
}

impl ManifestGuard {
    /// To be called once the database is open; follows its manifest until dropped.
    pub fn start(dir: &Path) -> io::Result<Self> {
        let marker = Arc::new(Marker {
            dir: dir.to_owned(),
            written: Mutex::new(None),
        });
        marker.record()?;
        let (stop, stopped) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("manifest-mark".to_owned())
            .spawn({
                let marker = marker.clone();
                move || {
                    while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                        marker.record_or_warn();
                    }
                }
            })?;
        Ok(Self {
            marker,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for ManifestGuard {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it holds nothing that a panic could have left half done
        }
        self.marker.record_or_warn();
    }
}

impl Marker {
    fn record_or_warn(&self) {
        if let Err(error) = self.record() {
            tracing::warn!(dir = %self.dir.display(), %error, "the manifest's mark could not be written");
        }
    }

    fn record(&self) -> io::Result<()> {
        let mut written = self.written.lock();
        let now = read_manifest(&self.dir)?;
        if let Some(now) = now.filter(|now| written.as_ref() != Some(now)) {
            // Its length is what was written. RocksDB may not have synced that yet, nor the name of a new one.
            File::open(self.dir.join(manifest_name(now.number)))?.sync_all()?;
            folder::sync(&self.dir)?;
            write_mark(&self.dir, &now)?;
            *written = Some(now);
        }
        Ok(())
    }
}

/// None if there is no `CURRENT`.
fn read_manifest(dir: &Path) -> io::Result<Option<Mark>> {
    let current = match fs::read_to_string(dir.join("CURRENT")) {
        Ok(current) => current,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let name = current.trim_end();
    let number = name
        .strip_prefix("MANIFEST-")
        .and_then(|number| number.parse().ok());
    let number = number
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "CURRENT names no manifest"))?;
    Ok(Some(Mark {
        number,
        bytes: fs::metadata(dir.join(name))?.len(),
    }))
}

/// None if there is no mark.
fn read_mark(dir: &Path) -> io::Result<Option<Mark>> {
    let text = match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let parsed = text
        .strip_suffix('\n')
        .and_then(|line| line.split_once(' '));
    let mark = parsed.and_then(|(number, bytes)| {
        Some(Mark {
            number: number.parse().ok()?,
            bytes: bytes.parse().ok()?,
        })
    });
    mark.map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed"))
}

fn manifest_name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

fn write_mark(dir: &Path, mark: &Mark) -> io::Result<()> {
    let line = format!("{} {}\n", mark.number, mark.bytes);
    folder::replace(dir, FILE, &[line.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rocksdb::{DB, Options};

    fn open(dir: &Path) -> (DB, ManifestGuard) {
        let mut options = Options::default();
        options.create_if_missing(true);
        (
            DB::open(&options, dir).unwrap(),
            ManifestGuard::start(dir).unwrap(),
        )
    }

    fn manifest(dir: &Path) -> PathBuf {
        dir.join(fs::read_to_string(dir.join("CURRENT")).unwrap().trim_end())
    }

    #[test]
    fn a_cut_or_missing_database_is_refused_and_a_sound_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("db");
        assert!(
            check(&dir, Existing::Required).is_err(),
            "the directory of a member is not made anew"
        );
        check(&dir, Existing::No).unwrap();
        for n in 0..3 {
            let (db, guard) = open(&dir);
            db.put(b"key", [n]).unwrap();
            db.flush().unwrap();
            drop((db, guard));
            check(&dir, Existing::Required).unwrap();
        }
        let path = manifest(&dir);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(
            check(&dir, Existing::Required)
                .unwrap_err()
                .contains("was cut")
        );
        fs::write(&path, &whole).unwrap();
        check(&dir, Existing::Required).unwrap();

        let current = fs::read(dir.join("CURRENT")).unwrap();
        fs::remove_file(dir.join("CURRENT")).unwrap();
        assert!(check(&dir, Existing::Required).is_err());
        fs::write(dir.join("CURRENT"), "").unwrap();
        assert!(check(&dir, Existing::Required).is_err());
        fs::write(dir.join("CURRENT"), current).unwrap();
        fs::remove_file(dir.join(FILE)).unwrap();
        assert!(check(&dir, Existing::Required).is_err());
    }
}
