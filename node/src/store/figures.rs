//! What a database says of itself, for metrics and for whoever asks how a node is.

use rocksdb::{ColumnFamily, DB, properties, properties::PropName};

/// Figures of one database, over all of its tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Rows that are in memory only, in bytes.
    pub memory_bytes: u64,
    /// Blocks of files in memory, in bytes.
    pub cache_bytes: u64,
    /// Files that hold rows, in bytes.
    pub file_bytes: u64,
    /// Files that no compaction has merged yet, of the table that has most.
    pub level0_files: u64,
    /// What compactions have before them, in bytes; an estimate.
    pub pending_compaction_bytes: u64,
    /// It slows writes down, so that compactions can keep up.
    pub is_slowing: bool,
    /// It takes no writes.
    pub has_stopped: bool,
    /// Flushes and compactions that failed since it was opened.
    pub background_errors: u64,
}

impl StoreFigures {
    /// Asks a database. What it does not answer is 0.
    pub fn of<'a>(db: &DB, tables: impl IntoIterator<Item = &'a ColumnFamily>) -> Self {
        let whole = |name: &PropName| db.property_int_value(name).ok().flatten().unwrap_or(0);
        let mut figures = Self {
            is_slowing: whole(properties::ACTUAL_DELAYED_WRITE_RATE) > 0,
            has_stopped: whole(properties::IS_WRITE_STOPPED) > 0,
            background_errors: whole(properties::BACKGROUND_ERRORS),
            ..Self::default()
        };
        let level0 = properties::num_files_at_level(0);
        for table in tables {
            let of = |name: &PropName| {
                let value = db.property_int_value_cf(table, name);
                value.ok().flatten().unwrap_or(0)
            };
            figures.memory_bytes += of(properties::CUR_SIZE_ALL_MEM_TABLES);
            figures.file_bytes += of(properties::TOTAL_SST_FILES_SIZE);
            figures.pending_compaction_bytes += of(properties::ESTIMATE_PENDING_COMPACTION_BYTES);
            // Tables may share one cache: each says what all of them have in it.
            figures.cache_bytes = figures.cache_bytes.max(of(properties::BLOCK_CACHE_USAGE));
            figures.level0_files = figures.level0_files.max(of(&level0));
        }
        figures
    }
}
