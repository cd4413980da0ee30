//! All replicas of a shard that applied the same log are the same, byte for byte.

use std::collections::BTreeMap;

use super::index::Index;
use crate::history::ReplicaDigest;

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut shards = BTreeMap::<u32, Vec<&ReplicaDigest>>::new();
    for replica in &index.run.closing.replicas {
        shards.entry(replica.shard).or_default().push(replica);
    }
    let mut broken = Vec::new();
    for (shard, replicas) in shards {
        let Some(first) = replicas.first() else {
            continue;
        };
        for other in &replicas {
            if other.applied != first.applied {
                broken.push(format!(
                    "shard {shard}: node {} stays at index {}, node {} at {}",
                    first.node_id, first.applied, other.node_id, other.applied
                ));
            } else if (&other.digest, other.rows) != (&first.digest, first.rows) {
                broken.push(format!(
                    "shard {shard} at index {}: node {} has {} ({} rows), node {} has {} ({} rows)",
                    first.applied,
                    first.node_id,
                    first.digest,
                    first.rows,
                    other.node_id,
                    other.digest,
                    other.rows
                ));
            }
        }
    }
    broken
}
