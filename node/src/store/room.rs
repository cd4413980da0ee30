//! How much room the disk of a data directory has left, and what that allows.
//!
//! A database that runs into the end of its disk stops in the middle of something. So a node stops before: first it takes
//! nothing new, then nothing from other nodes either, until there is room again.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a node still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Everything.
    Enough,
    /// It proposes nothing new and leads nothing that another can lead. What others have agreed on it still takes.
    Low,
    /// It takes no entries and no snapshots.
    Out,
}

/// The room on one disk. Clones are the same.
#[derive(Debug, Clone)]
pub struct DiskRoom {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    reserve_bytes: u64,
    free_bytes: AtomicU64,
    room: AtomicU8,
}

impl DiskRoom {
    /// Low when less than the reserve is free, out when less than half of it is; 0: never.
    pub fn new(reserve_bytes: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                reserve_bytes,
                free_bytes: AtomicU64::new(u64::MAX),
                room: AtomicU8::new(0),
            }),
        }
    }

    /// By the last measurement.
    pub fn now(&self) -> Room {
        match self.shared.room.load(Ordering::Relaxed) {
            0 => Room::Enough,
            1 => Room::Low,
            _ => Room::Out,
        }
    }

    /// Bytes that were free at the last measurement.
    pub fn free_bytes(&self) -> u64 {
        self.shared.free_bytes.load(Ordering::Relaxed)
    }

    /// What should be free.
    pub fn reserve_bytes(&self) -> u64 {
        self.shared.reserve_bytes
    }

    /// Asks the system. Blocks, for as long as the disk does.
    pub fn measure(&self, dir: &Path) -> io::Result<Room> {
        let said = rustix::fs::statvfs(dir)?;
        Ok(self.is_free(said.f_bavail.saturating_mul(said.f_frsize)))
    }

    /// So many bytes are free. There must be a quarter more for each step back, so that nothing flutters.
    pub(crate) fn is_free(&self, free_bytes: u64) -> Room {
        let (low, before) = (self.shared.reserve_bytes, self.now());
        let enough = |bytes: u64, was_below: bool| {
            free_bytes >= if was_below { bytes + bytes / 4 } else { bytes }
        };
        let room = if !enough(low / 2, before == Room::Out) {
            Room::Out
        } else if !enough(low, before >= Room::Low) {
            Room::Low
        } else {
            Room::Enough
        };
        self.shared.free_bytes.store(free_bytes, Ordering::Relaxed);
        self.shared.room.store(room as u8, Ordering::Relaxed);
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_back_needs_a_quarter_more() {
        let room = DiskRoom::new(1000);
        let steps = [
            (1000, Room::Enough),
            (999, Room::Low),
            (1100, Room::Low),
            (500, Room::Low),
            (499, Room::Out),
            (600, Room::Out),
            (625, Room::Low),
            (1249, Room::Low),
            (1250, Room::Enough),
            (1000, Room::Enough),
            (0, Room::Out),
            (2000, Room::Enough),
        ];
        for (free, expected) in steps {
            assert_eq!(room.is_free(free), expected, "{free} bytes");
        }
        let unlimited = DiskRoom::new(0);
        assert_eq!(unlimited.is_free(0), Room::Enough);
    }

    #[test]
    fn a_real_disk_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DiskRoom::new(1).measure(dir.path()).unwrap(), Room::Enough);
        let greedy = DiskRoom::new(u64::MAX / 2);
        assert_eq!(greedy.measure(dir.path()).unwrap(), Room::Out);
        assert!(greedy.free_bytes() < u64::MAX);
    }
}
