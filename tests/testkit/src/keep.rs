//! Where failed runs, and cores, are kept.

use std::path::PathBuf;

/// `$PARLANCE_TESTS_KEEP`, else a directory in the system's temporary one.
pub fn dir() -> PathBuf {
    std::env::var_os("PARLANCE_TESTS_KEEP").map_or_else(
        || std::env::temp_dir().join("parlance-tests-kept"),
        PathBuf::from,
    )
}
