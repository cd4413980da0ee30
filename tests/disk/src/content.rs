//! The bytes of a file as they are, and as they would be after a power cut.
//!
//! In blocks that both share until one of them is written.

use std::ops::Range;
use std::sync::Arc;

/// Bytes of a block: what a disk writes whole or not at all.
pub const BLOCK_BYTES: usize = 4096;

type Block = Arc<[u8; BLOCK_BYTES]>;

/// Bytes in shared blocks. A block that was never written is zeros.
#[derive(Clone, Default)]
pub struct Bytes {
    blocks: Vec<Option<Block>>,
    length: u64,
}

impl Bytes {
    /// How many there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Up to `size` bytes from `offset`.
    pub fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let end = self.length.min(offset.saturating_add(size as u64));
        let mut read = vec![0; end.saturating_sub(offset) as usize];
        for (block, inside, place) in pieces(offset, read.len()) {
            if let Some(Some(bytes)) = self.blocks.get(block) {
                let length = place.len();
                read[place].copy_from_slice(&bytes[inside..inside + length]);
            }
        }
        read
    }

    /// Writes at `offset`; a gap before it is zeros.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        if end > self.length {
            self.resize(end);
        }
        for (block, inside, place) in pieces(offset, data.len()) {
            let bytes = Arc::make_mut(self.blocks[block].get_or_insert_with(zeros));
            let length = place.len();
            bytes[inside..inside + length].copy_from_slice(&data[place]);
        }
    }

    /// Cuts, or adds zeros.
    pub fn resize(&mut self, length: u64) {
        self.blocks
            .resize(length.div_ceil(BLOCK_BYTES as u64) as usize, None);
        let used = (length % BLOCK_BYTES as u64) as usize;
        if length < self.length
            && used > 0
            && let Some(Some(last)) = self.blocks.last_mut()
        {
            Arc::make_mut(last)[used..].fill(0);
        }
        self.length = length;
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Whether a block is the same here and there; one that is missing there is zeros.
    pub fn same_block(&self, other: &Bytes, block: usize) -> bool {
        let zero = [0; BLOCK_BYTES];
        let of = |bytes: &Bytes| bytes.blocks.get(block).cloned().flatten();
        of(self).as_deref().unwrap_or(&zero) == of(other).as_deref().unwrap_or(&zero)
    }

    /// Takes a block from another file's bytes; the length stays.
    pub fn take_block(&mut self, other: &Bytes, block: usize) {
        if let Some(own) = self.blocks.get_mut(block) {
            *own = other.blocks.get(block).cloned().flatten();
        }
    }
}

fn zeros() -> Block {
    Arc::new([0; BLOCK_BYTES])
}

/// Which block, from where inside it, and where that is in the whole.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let inside = (at % BLOCK_BYTES as u64) as usize;
        let size = (length - done).min(BLOCK_BYTES - inside);
        let place = done..done + size;
        done += size;
        (size > 0).then_some(((at / BLOCK_BYTES as u64) as usize, inside, place))
    })
}

/// A file: what programs see, and what is on the disk.
#[derive(Clone, Default)]
pub struct Content {
    now: Bytes,
    synced: Bytes,
    /// Blocks that may differ.
    dirty: Range<usize>,
}

impl Content {
    /// What programs see.
    pub fn now(&self) -> &Bytes {
        &self.now
    }

    /// What is on the disk.
    pub fn synced(&self) -> &Bytes {
        &self.synced
    }

    /// Writes into the page cache.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let (from, length) = (offset.min(self.now.length), self.now.length);
        self.now.write(offset, data);
        self.touch(from, length.max(offset + data.len() as u64));
    }

    /// Cuts or lengthens in the page cache.
    pub fn resize(&mut self, length: u64) {
        let before = self.now.length;
        self.now.resize(length);
        self.touch(before.min(length), before.max(length));
    }

    fn touch(&mut self, from: u64, to: u64) {
        let blocks = (from / BLOCK_BYTES as u64) as usize..to.div_ceil(BLOCK_BYTES as u64) as usize;
        self.dirty = match self.dirty.is_empty() {
            true => blocks,
            false => self.dirty.start.min(blocks.start)..self.dirty.end.max(blocks.end),
        };
    }

    /// What is seen is on the disk from now on.
    pub fn sync(&mut self) {
        self.synced.resize(self.now.length);
        let dirty = std::mem::take(&mut self.dirty);
        for block in dirty.start..dirty.end.min(self.now.blocks()) {
            self.synced.take_block(&self.now, block);
        }
    }

    /// Bytes that a power cut would take, at most.
    pub fn unsynced(&self) -> u64 {
        let differs = |block: &usize| !self.now.same_block(&self.synced, *block);
        let end = self.dirty.end.min(self.now.blocks());
        let blocks = (self.dirty.start..end).filter(differs).count() as u64;
        let longer = self.now.length.saturating_sub(self.synced.length);
        longer
            .max(self.synced.length.saturating_sub(self.now.length))
            .max(match longer {
                0 => blocks * BLOCK_BYTES as u64,
                _ => 0,
            })
    }

    /// The power is gone: what is on the disk is all there is, and `tail` bytes of what was appended.
    pub fn cut(&mut self, tail: u64) {
        let end = self.now.length.min(self.synced.length + tail);
        if end > self.synced.length {
            let from = self.synced.length;
            let kept = self.now.read(from, (end - from) as usize);
            self.synced.write(from, &kept);
        }
        self.now = self.synced.clone();
        self.dirty = 0..0;
    }

    /// Changes both what is seen and what is on the disk, as rot does.
    pub fn rot(&mut self, change: impl Fn(&mut Bytes)) {
        change(&mut self.now);
        change(&mut self.synced);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_across_blocks_and_gaps_are_zeros() {
        let mut bytes = Bytes::default();
        bytes.write(4090, b"across the edge");
        assert_eq!(bytes.read(4090, 100), b"across the edge");
        assert_eq!(bytes.read(0, 3), [0; 3]);
        bytes.write(3 * BLOCK_BYTES as u64, b"x");
        assert_eq!(bytes.length(), 3 * BLOCK_BYTES as u64 + 1);
        assert!(bytes.read(9000, 100).iter().all(|byte| *byte == 0));
        bytes.resize(4092);
        bytes.resize(5000);
        assert_eq!(bytes.read(4088, 6), *b"\0\0ac\0\0", "what was cut is gone");
        assert!(bytes.read(6000, 1).is_empty());
    }

    #[test]
    fn a_cut_forgets_what_was_not_synced_and_keeps_a_tail() {
        let mut file = Content::default();
        file.write(0, b"synced");
        file.sync();
        file.write(2, b"XX");
        file.write(6, b" and more");
        assert!(file.unsynced() > 0);
        let mut torn = file.clone();
        file.cut(0);
        assert_eq!(file.now().read(0, 100), b"synced");
        torn.cut(4);
        assert_eq!(torn.now().read(0, 100), b"synced and");
        assert_eq!(torn.unsynced(), 0);
    }

    #[test]
    fn a_file_that_was_cut_shorter_is_whole_again_unless_that_was_synced() {
        let mut file = Content::default();
        file.write(0, &[7; 10_000]);
        file.sync();
        file.resize(10);
        file.cut(0);
        assert_eq!(file.now().read(0, 20_000), [7; 10_000]);
        file.resize(10);
        file.sync();
        file.write(5000, &[1]);
        file.cut(0);
        assert_eq!(file.now().read(0, 20_000), [7; 10]);
    }
}
