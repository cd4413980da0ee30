//! Where things live: conversations and users to shards, shards to Raft groups.
//!
//! Gateways and nodes must agree on these for the life of a cluster: the hash is fixed, and tested.

use xxhash_rust::xxh3::Xxh3;

/// The shard of a conversation, `0..shard_count`.
pub fn conversation_shard(app_id: &str, conversation_id: &str, shard_count: u32) -> u32 {
    hash_to_shard(b'c', app_id, conversation_id, shard_count)
}

/// The home shard of a user, `0..shard_count`.
pub fn home_shard(app_id: &str, user_id: &str, shard_count: u32) -> u32 {
    hash_to_shard(b'u', app_id, user_id, shard_count)
}

fn hash_to_shard(kind: u8, app_id: &str, id: &str, shard_count: u32) -> u32 {
    let mut hash = Xxh3::new();
    hash.update(&[kind]);
    hash.update(app_id.as_bytes());
    hash.update(&[0]); // no id has a zero byte
    hash.update(id.as_bytes());
    (hash.digest() % u64::from(shard_count.max(1))) as u32
}

/// A Raft group's number: 0 is the meta group, `s + 1` is shard `s`.
pub type Group = u32;

/// The meta group.
pub const META_GROUP: Group = 0;

/// The group of a shard.
pub fn shard_group(shard: u32) -> Group {
    shard.saturating_add(1)
}

/// The shard of a group; none for the meta group.
pub fn group_shard(group: Group) -> Option<u32> {
    group.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change here moves every conversation of every cluster: never edit the expected numbers.
    #[test]
    fn hash_is_fixed_for_ever() {
        let shards: Vec<u32> = ["alice", "bob", "carol"]
            .iter()
            .map(|u| home_shard("demo", u, 64))
            .collect();
        assert_eq!(shards, HOME_SHARDS_OF_ALICE_BOB_CAROL);
        assert_eq!(
            conversation_shard("demo", "d:5:alice:bob", 64),
            SHARD_OF_ALICE_AND_BOB
        );
    }
    const HOME_SHARDS_OF_ALICE_BOB_CAROL: [u32; 3] = [16, 32, 61];
    const SHARD_OF_ALICE_AND_BOB: u32 = 21;
}
