//! Rows in files of their own, on their way into the store: written in order, table by table, and taken in whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{BlockBasedOptions, DBCompressionType, Options, SstFileWriter};

use super::{StoreError, Table};

/// A file takes no more rows after this many bytes: one huge file would be one huge compaction.
const FILE_BYTES_TARGET: u64 = 64 << 20;

/// A finished file with rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFile {
    /// Whose rows.
    pub table: Table,
    /// File name inside its folder.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// CRC-32C of the whole file.
    pub crc32c: u32,
}

impl RowFile {
    /// Reads the whole file and compares it with what was written.
    pub fn verify(&self, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(&self.name);
        if checksum(&path)? == (self.size_bytes, self.crc32c) {
            return Ok(());
        }
        Err(StoreError::Damaged {
            what: path.display().to_string(),
            reason: "its size or checksum is not what was written".to_owned(),
        })
    }
}

/// How the store's tables look in files.
pub struct RowFileOptions(Options);

impl Default for RowFileOptions {
    fn default() -> Self {
        Self(file_options(&block_options()))
    }
}

/// Writes rows to files in a folder.
pub struct RowFiles<'a> {
    options: &'a RowFileOptions,
    dir: PathBuf,
    open: Option<(Table, String, SstFileWriter<'a>)>,
    finished: Vec<RowFile>,
}

impl<'a> RowFiles<'a> {
    /// The folder must be there, and empty.
    pub fn new(options: &'a RowFileOptions, dir: &Path) -> Self {
        Self {
            options,
            dir: dir.to_owned(),
            open: None,
            finished: Vec::new(),
        }
    }

    /// Adds a row. Keys of one file must ascend; a new table begins a new file.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let fits = self.open.as_ref().is_some_and(|(open, _, writer)| {
            *open == table && writer.file_size() < FILE_BYTES_TARGET
        });
        if !fits {
            self.finish_file()?;
        }
        let writer = match &mut self.open {
            Some((_, _, writer)) => writer,
            none => {
                let name = format!("{}-{}.sst", table.name(), self.finished.len());
                let writer = SstFileWriter::create(&self.options.0);
                writer.open(self.dir.join(&name))?;
                &mut none.insert((table, name, writer)).2
            }
        };
        Ok(writer.put(key, value)?)
    }

    /// Ends the file that is being written, if there is one: no file may reach over rows that are not in it.
    pub fn finish_file(&mut self) -> Result<(), StoreError> {
        let Some((table, name, mut writer)) = self.open.take() else {
            return Ok(());
        };
        writer.finish()?;
        let path = self.dir.join(&name);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|e| file_error(&path, e))?;
        let (size_bytes, crc32c) = checksum(&path)?;
        self.finished.push(RowFile {
            table,
            name,
            size_bytes,
            crc32c,
        });
        Ok(())
    }

    /// All files, on disk.
    pub fn finish(mut self) -> Result<Vec<RowFile>, StoreError> {
        self.finish_file()?;
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| file_error(&self.dir, e))?;
        Ok(self.finished)
    }
}

pub(super) fn block_options() -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_bloom_filter(10.0, false);
    blocks
}

pub(super) fn file_options(blocks: &BlockBasedOptions) -> Options {
    let mut options = Options::default();
    options.set_block_based_table_factory(blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

pub(super) fn file_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::File {
        path: path.to_owned(),
        source: Arc::new(source),
    }
}

/// Size and CRC-32C of a whole file, read in pieces.
fn checksum(path: &Path) -> Result<(u64, u32), StoreError> {
    let mut file = File::open(path).map_err(|e| file_error(path, e))?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut size, mut crc) = (0u64, 0u32);
    loop {
        let read = file.read(&mut buffer).map_err(|e| file_error(path, e))?;
        if read == 0 {
            return Ok((size, crc));
        }
        size += read as u64;
        crc = crc32c::crc32c_append(crc, buffer.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW_BYTES: usize = 1 << 20;
    const ROWS: u64 = 70;

    /// Bytes that no compression makes fewer.
    fn noise(seed: u64) -> Vec<u8> {
        let mut state = seed + 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        (0..ROW_BYTES / 8).flat_map(|_| next()).collect()
    }

    #[test]
    fn many_rows_go_into_files_of_64_mib() {
        let dir = tempfile::tempdir().unwrap();
        let options = RowFileOptions::default();
        let mut files = RowFiles::new(&options, dir.path());
        for row in 0..ROWS {
            let key = row.to_be_bytes();
            files.put(Table::Events, &key, &noise(row)).unwrap();
        }
        let files = files.finish().unwrap();
        let sizes: Vec<u64> = files.iter().map(|file| file.size_bytes).collect();
        let [first, second] = sizes[..] else {
            panic!("{sizes:?}")
        };
        // The row that passes the bound is the last, and the file ends with its index.
        let bound = 64 << 20;
        assert!(
            (bound..bound + 3 * ROW_BYTES as u64).contains(&first),
            "{first}"
        );
        assert!(first + second > ROWS * ROW_BYTES as u64);
        assert!(files.iter().all(|file| file.verify(dir.path()).is_ok()));
    }
}
