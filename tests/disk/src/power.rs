//! A power cut: what was not synced is gone, or some of it, as the seed has it.

use std::collections::BTreeSet;
use std::fmt;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::disk::{Body, Disk, ROOT};

/// What a cut took.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Of files that are still there.
    pub bytes: u64,
    pub files: u64,
    /// Names that were not on the disk yet, and removed ones that are back.
    pub names: u64,
    /// Bytes that were not synced and yet are there.
    pub torn: u64,
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bytes,
            files,
            names,
            torn,
        } = self;
        write!(
            f,
            "forgot {bytes} bytes of {files} files and {names} names, kept {torn} unsynced bytes"
        )
    }
}

impl Disk {
    /// Nothing runs that uses the disk. With seed 0 nothing is there that was not synced. With another, any part of what was
    /// appended to a file may be there; with an odd one all names, as if their journal had gone out just before.
    pub fn cut(&mut self, seed: u64) -> Forgotten {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut forgotten = Forgotten::default();
        let keeps_names = seed % 2 == 1;
        for node in self.nodes.values_mut() {
            match &mut node.body {
                Body::Folder { now, synced } if keeps_names => *synced = now.clone(),
                Body::Folder { now, synced } => {
                    let differ = |name: &&String| now.get(*name) != synced.get(*name);
                    let both: BTreeSet<&String> = now.keys().chain(synced.keys()).collect();
                    forgotten.names += both.into_iter().filter(differ).count() as u64;
                    *now = synced.clone();
                }
                Body::File(content) => {
                    let unsynced = content.unsynced();
                    let appended = content
                        .now()
                        .length()
                        .saturating_sub(content.synced().length());
                    let tail = match rng.random_range(0..3) {
                        0 => 0,
                        _ if seed == 0 => 0,
                        _ => rng.random_range(0..=appended),
                    };
                    content.cut(tail);
                    forgotten.torn += tail;
                    forgotten.bytes += unsynced.saturating_sub(tail);
                    forgotten.files += u64::from(unsynced > tail);
                }
            }
        }
        self.forget_unreachable();
        forgotten
    }

    fn forget_unreachable(&mut self) {
        for node in self.nodes.values_mut() {
            (node.names, node.names_synced) = (0, 0);
        }
        let mut open = vec![ROOT];
        let mut reached = BTreeSet::from([ROOT]);
        while let Some(folder) = open.pop() {
            let names = self.names(folder).cloned().unwrap_or_default();
            for number in names.into_values() {
                if let Some(node) = self.nodes.get_mut(&number) {
                    node.names += 1;
                    node.names_synced += 1;
                    if reached.insert(number) && matches!(node.body, Body::Folder { .. }) {
                        open.push(number);
                    }
                }
            }
        }
        self.nodes.retain(|number, _| reached.contains(number));
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::disk::{file, folder};

    const HARSH: u64 = 0;

    fn root_with(name: &str, bytes: &[u8]) -> (Disk, u64) {
        let mut disk = Disk::new(|| SystemTime::UNIX_EPOCH);
        let number = disk.make(ROOT, name, 0o600, file()).unwrap();
        disk.write(number, 0, bytes).unwrap();
        (disk, number)
    }

    #[test]
    fn what_was_not_synced_is_gone_and_what_was_removed_is_back() {
        let mut disk = Disk::new(|| SystemTime::UNIX_EPOCH);
        let log = disk.make(ROOT, "log", 0o700, folder()).unwrap();
        disk.sync(ROOT).unwrap();
        let old = disk.make(log, "old", 0o600, file()).unwrap();
        disk.write(old, 0, b"old").unwrap();
        disk.sync(old).unwrap();
        disk.sync(log).unwrap();
        // All of this is without a sync of the folder.
        let new = disk.make(log, "new", 0o600, file()).unwrap();
        disk.write(new, 0, b"new").unwrap();
        disk.sync(new).unwrap();
        disk.rename((log, "new"), (log, "CURRENT")).unwrap();
        disk.unlink(log, "old").unwrap();
        let forgotten = disk.cut(HARSH);
        assert_eq!(forgotten.names, 2, "{forgotten}");
        assert_eq!(disk.names(log).unwrap().keys().collect::<Vec<_>>(), ["old"]);
        let old = disk.at("log/old").unwrap();
        assert_eq!(disk.content(old).unwrap().now().read(0, 9), b"old");
    }

    #[test]
    fn what_was_synced_stays() {
        for seed in 0..10 {
            let mut disk = Disk::new(|| SystemTime::UNIX_EPOCH);
            let log = disk.make(ROOT, "log", 0o700, folder()).unwrap();
            disk.sync(ROOT).unwrap();
            let new = disk.make(log, "new", 0o600, file()).unwrap();
            disk.write(new, 0, b"new").unwrap();
            disk.sync(new).unwrap();
            disk.link(new, log, "again").unwrap();
            disk.rename((log, "new"), (log, "CURRENT")).unwrap();
            disk.sync(log).unwrap();
            disk.cut(seed);
            for path in ["log/CURRENT", "log/again"] {
                let number = disk.at(path).unwrap();
                assert_eq!(disk.content(number).unwrap().now().read(0, 9), b"new");
            }
            assert!(disk.at("log/new").is_err());
        }
    }

    #[test]
    fn names_may_outlive_the_data_that_was_never_synced() {
        let lengths: Vec<u64> = (0..50)
            .map(|half| {
                let (mut disk, _) = root_with("new", &[7; 100_000]);
                disk.rename((ROOT, "new"), (ROOT, "CURRENT")).unwrap();
                let forgotten = disk.cut(2 * half + 1);
                let number = disk.at("CURRENT").unwrap();
                let length = disk.content(number).unwrap().now().length();
                assert_eq!(forgotten.torn, length);
                length
            })
            .collect();
        let some = |fits: fn(u64) -> bool| lengths.iter().any(|length| fits(*length));
        assert!(some(|length| length == 0) && some(|length| length % 4096 > 0));
    }

    #[test]
    fn what_only_an_open_handle_reached_is_gone_and_room_comes_back_with_the_last_name() {
        let (mut disk, number) = root_with("a", &[]);
        disk.opened(number).unwrap();
        disk.set_capacity(Some(1000));
        disk.write(number, 0, &[1; 1000]).unwrap();
        assert_eq!(disk.write(number, 1000, &[1]), Err(fuser::Errno::ENOSPC));
        disk.write(number, 0, &[2; 1000]).unwrap();
        disk.unlink(ROOT, "a").unwrap();
        assert_eq!(disk.free(), 0, "it is open");
        disk.closed(number);
        assert_eq!(disk.free(), 1000);
        assert_eq!(disk.nodes.len(), 1);
    }
}
