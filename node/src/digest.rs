//! A digest of a replica's rows, for operators and tests who compare replicas.

use crate::raft::Replica;
use crate::store::{StoreError, key};

/// What a replica's rows come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest {
    /// Index of the last entry applied.
    pub applied: u64,
    /// BLAKE3 over tables, keys and values.
    pub hash_hex: String,
    /// How many rows.
    pub rows: u64,
}

/// Hashes the rows as they are after one entry. Blocks.
///
/// # Errors
/// The disk failed or a row is damaged.
pub fn digest(replica: &Replica) -> Result<Digest, StoreError> {
    let own = key::applied(replica.id());
    let (mut hash, mut rows, mut applied) = (blake3::Hasher::new(), 0, 0);
    replica.read_rows(&mut |state, ranges, view| {
        applied = state.applied.map_or(0, |id| id.index);
        for range in ranges {
            hash.update(range.table.name().as_bytes());
            view.scan(range, &mut |key, value| {
                if key != own {
                    for part in [key, value] {
                        hash.update(&(part.len() as u64).to_be_bytes());
                        hash.update(part);
                    }
                    rows += 1;
                }
                true
            })?;
        }
        Ok(())
    })?;
    Ok(Digest {
        applied,
        hash_hex: hash.finalize().to_hex().to_string(),
        rows,
    })
}
