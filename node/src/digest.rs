//! A digest of one group's rows, for operators and tests who compare replicas.

use parlance_proto::shard::Group;
use parlance_proto::store::v1::AppliedState;

use crate::apply::decode;
use crate::store::{Order, StateStore, StoreError, Table, key};

/// What a replica's rows come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Index of the last entry applied.
    pub applied: u64,
    /// BLAKE3 over tables, keys and values.
    pub hash_hex: String,
    /// How many rows.
    pub rows: u64,
}

/// Hashes until nothing was applied meanwhile, a few times at most; the last digest then speaks of a moving replica.
pub fn digest(store: &dyn StateStore, group: Group) -> Result<Digest, StoreError> {
    const TRIES: usize = 5;
    let mut last = hash_once(store, group)?;
    for _ in 1..TRIES {
        if applied(store, group)? == last.applied {
            break;
        }
        last = hash_once(store, group)?;
    }
    Ok(last)
}

fn applied(store: &dyn StateStore, group: Group) -> Result<u64, StoreError> {
    let row = store.get(Table::Meta, &key::applied_key(group))?;
    let state: AppliedState = row
        .map(|row| decode("applied state", &row))
        .transpose()?
        .unwrap_or_default();
    Ok(state.applied.map_or(0, |id| id.index))
}

fn hash_once(store: &dyn StateStore, group: Group) -> Result<Digest, StoreError> {
    let applied = applied(store, group)?;
    let own = key::applied_key(group);
    let (from, to) = key::group_range(group);
    let (mut hash, mut rows) = (blake3::Hasher::new(), 0);
    for table in Table::ALL {
        hash.update(table.name().as_bytes());
        store.scan(table, &from, &to, Order::Rising, &mut |key, value| {
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
    Ok(Digest {
        applied,
        hash_hex: hash.finalize().to_hex().to_string(),
        rows,
    })
}
