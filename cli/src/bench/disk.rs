//! How long the disk takes to keep a promise: 4 KiB written, then fdatasync.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::latency::{Latency, micros};

/// Long enough for a stable median, short enough not to be waited for.
const LENGTH: Duration = Duration::from_secs(1);
const BLOCK: [u8; 4096] = [0x5a; 4096];
/// The file is written round and round, as a recycled log would be.
const FILE_BYTES: u64 = 8 << 20;

/// Below this nothing reaches a disk: memory, or a disk that acknowledges before it has written.
pub const DOUBTFUL_MS: f64 = 0.02;

/// Measures in a folder, which must exist.
pub fn fsync_latency(dir: &Path) -> anyhow::Result<Latency> {
    let path = dir.join("fsync-probe");
    let result = measure(&path).with_context(|| format!("measure fsync with {}", path.display()));
    // It may not have been made.
    let _ = std::fs::remove_file(&path);
    result
}

fn measure(path: &Path) -> std::io::Result<Latency> {
    let mut file = std::fs::File::create(path)?;
    let (started, mut times, mut at) = (Instant::now(), Vec::new(), 0);
    while started.elapsed() < LENGTH {
        let one = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        times.push(micros(one.elapsed()));
        at += BLOCK.len() as u64;
        if at >= FILE_BYTES {
            at = 0;
            file.seek(SeekFrom::Start(0))?;
        }
    }
    Ok(Latency::of(times))
}
