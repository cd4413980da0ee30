//! Damage to what is on the disk already: flipped bits, and blocks whose last writes never reached the medium.

use std::collections::BTreeMap;
use std::ops::Range;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::content::{BLOCK_BYTES, Bytes};
use crate::disk::{Body, Disk};
use crate::rules::matches;

/// Files from so many blocks on are large.
const LARGE_BLOCKS: u64 = 8;

/// The files as they were, by number.
pub type Remembered = BTreeMap<u64, Bytes>;

impl Disk {
    /// Files with bytes whose path fits a pattern.
    pub fn files(&self, pattern: &str) -> Vec<(u64, String)> {
        let files = self.nodes.iter().filter(|(_, node)| node.length() > 0);
        files
            .map(|(number, _)| (*number, self.path(*number)))
            .filter(|(_, path)| matches(pattern, path))
            .collect()
    }

    /// To be given back later as old blocks. Costs nothing until files change.
    pub fn remember(&self) -> Remembered {
        let files = self
            .nodes
            .iter()
            .filter_map(|(number, node)| match &node.body {
                Body::File(content) => Some((*number, content.now().clone())),
                Body::Folder { .. } => None,
            });
        files.collect()
    }

    /// Flips one bit in each of `count` files; answers where.
    pub fn flip(&mut self, pattern: &str, count: usize, seed: u64) -> Vec<String> {
        let mut rng = StdRng::seed_from_u64(seed);
        let files = self.files(pattern);
        let chosen: Vec<_> = files.choose_multiple(&mut rng, count).cloned().collect();
        let mut done = Vec::new();
        for (number, path) in chosen {
            let Ok(content) = self.content_mut(number) else {
                continue;
            };
            let (at, bit) = (
                rng.random_range(0..content.now().length()),
                rng.random_range(0..8),
            );
            content.rot(|bytes| {
                if let Some(byte) = bytes.read(at, 1).first() {
                    bytes.write(at, &[byte ^ (1 << bit)]);
                }
            });
            done.push(format!("{path} byte {at} bit {bit}"));
        }
        done
    }

    /// Flips one bit in each block of a part, in percent, of each large file; answers where.
    pub fn rot(&mut self, pattern: &str, percent: Range<u64>) -> Vec<String> {
        let mut done = Vec::new();
        for (number, path) in self.files(pattern) {
            let Ok(content) = self.content_mut(number) else {
                continue;
            };
            let (length, block) = (content.now().length(), BLOCK_BYTES as u64);
            if length < LARGE_BLOCKS * block {
                continue;
            }
            let (from, to) = (length * percent.start / 100, length * percent.end / 100);
            content.rot(|bytes| {
                for at in (from..to).step_by(BLOCK_BYTES) {
                    if let Some(byte) = bytes.read(at, 1).first() {
                        bytes.write(at, &[byte ^ 1]);
                    }
                }
            });
            done.push(format!("{path} bytes {from} to {to}"));
        }
        done
    }

    /// Puts an old block back into one file that fits, as if its last write had been lost; the length stays. Answers
    /// where, if any file has changed.
    pub fn grow_old(&mut self, pattern: &str, then: &Remembered, seed: u64) -> Option<String> {
        let mut rng = StdRng::seed_from_u64(seed);
        let empty = Bytes::default();
        let changed: Vec<(u64, String, usize)> = self
            .files(pattern)
            .into_iter()
            .flat_map(|(number, path)| {
                let now = self.content(number).ok().map(|content| content.now());
                let old = then.get(&number).unwrap_or(&empty);
                let blocks = 0..now.map_or(0, Bytes::blocks);
                let differ =
                    blocks.filter(|block| now.is_some_and(|now| !now.same_block(old, *block)));
                differ
                    .map(|block| (number, path.clone(), block))
                    .collect::<Vec<_>>()
            })
            .collect();
        let (number, path, block) = changed.choose(&mut rng)?;
        let old = then.get(number).unwrap_or(&empty);
        let content = self.content_mut(*number).ok()?;
        content.rot(|bytes| bytes.take_block(old, *block));
        Some(format!("{path} bytes from {}", block * BLOCK_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::disk::{ROOT, file};

    #[test]
    fn a_flipped_bit_is_seen_at_once_and_after_a_cut() {
        let mut disk = Disk::new(|| SystemTime::UNIX_EPOCH);
        let number = disk.make(ROOT, "a", 0o600, file()).unwrap();
        disk.write(number, 0, &[0; 9000]).unwrap();
        disk.sync(number).unwrap();
        disk.sync(ROOT).unwrap();
        assert_eq!(disk.flip("a", 1, 7).len(), 1);
        let ones = |disk: &Disk| {
            let bytes = disk.content(number).unwrap().now().read(0, 9000);
            bytes.iter().map(|byte| byte.count_ones()).sum::<u32>()
        };
        assert_eq!(ones(&disk), 1);
        disk.cut(1);
        assert_eq!(ones(&disk), 1);
    }

    #[test]
    fn rot_is_in_one_part_of_large_files() {
        let mut disk = Disk::new(|| SystemTime::UNIX_EPOCH);
        let large = disk.make(ROOT, "a", 0o600, file()).unwrap();
        disk.write(large, 0, &[0; 100_000]).unwrap();
        let small = disk.make(ROOT, "b", 0o600, file()).unwrap();
        disk.write(small, 0, &[0; 1_000]).unwrap();
        assert_eq!(disk.rot("*", 40..60).len(), 1);
        let bytes = disk.content(large).unwrap().now().read(0, 100_000);
        let rotten: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        assert!(rotten.len() >= 4 && rotten.iter().all(|at| (40_000..60_000).contains(at)));
    }

    #[test]
    fn an_old_block_is_what_was_there_when_it_was_remembered() {
        let mut disk = Disk::new(|| SystemTime::UNIX_EPOCH);
        let number = disk.make(ROOT, "a", 0o600, file()).unwrap();
        disk.write(number, 0, &[1; 8192]).unwrap();
        let then = disk.remember();
        assert_eq!(disk.grow_old("*", &then, 1), None, "nothing has changed");
        disk.write(number, 5000, &[2; 10_000]).unwrap();
        for seed in 0..20 {
            disk.grow_old("*", &then, seed);
        }
        let bytes = disk.content(number).unwrap().now().read(0, 20_000);
        assert_eq!(bytes.len(), 15_000, "its length is the new one");
        assert!(bytes[..8192].iter().all(|byte| *byte == 1));
        assert!(bytes[8192..].iter().all(|byte| *byte == 0));
    }
}
