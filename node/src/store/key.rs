//! Every key of the state store. Keys are on disk and in snapshots: a layout never changes once released.
//!
//! | table | key (after the group, 4 bytes big-endian) | value (`parlance.store.v1`) | removed by |
//! | --- | --- | --- | --- |
//! | events | app 0 conversation 0 seq (8 bytes BE) | `StoredEvent` | retention |
//! | conversations | app 0 conversation 0 | `ConversationHead` | never |
//! | members | app 0 conversation 0 user | `ReadPosition` | never |
//! | users | app 0 user 0 conversation | `UserConversation` | never |
//! | dedup | day (4 bytes BE) digest (16 bytes) | `DedupRecord` | the second day after |
//! | outbox | number of the last item (8 bytes BE) | `OutboxBatch` | the watermark |
//! | meta | `applied` | `AppliedState` | never |
//! | meta | `shard` | `ShardState` | never |
//! | meta | `map` (meta group) | `ClusterMap` | never |
//! | meta | `app/` app (meta group) | `App` | never |
//! | meta | `invitation` (no group: 4 bytes of 255) | `ClusterMap` | never |
//!
//! Ids have no zero byte (`parlance_proto::ids`), so a zero byte ends them.

use parlance_proto::shard::Group;

fn with_group(group: Group, capacity: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + capacity);
    key.extend_from_slice(&group.to_be_bytes());
    key
}

fn push_id(key: &mut Vec<u8>, id: &str) {
    key.extend_from_slice(id.as_bytes());
    key.push(0);
}

fn ids(group: Group, first: &str, second: &str, extra: usize) -> Vec<u8> {
    let mut key = with_group(group, first.len() + second.len() + 2 + extra);
    push_id(&mut key, first);
    push_id(&mut key, second);
    key
}

/// All rows of a group: from inclusive, to exclusive.
pub fn group_range(group: Group) -> (Vec<u8>, Vec<u8>) {
    (
        group.to_be_bytes().to_vec(),
        (group + 1).to_be_bytes().to_vec(),
    )
}

/// One event.
pub fn event(group: Group, app: &str, conversation: &str, seq: u64) -> Vec<u8> {
    let mut key = ids(group, app, conversation, 8);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// The seq at the end of an event's key.
pub fn event_seq(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|seq| u64::from_be_bytes(*seq))
}

/// A conversation's head.
pub fn conversation(group: Group, app: &str, conversation: &str) -> Vec<u8> {
    ids(group, app, conversation, 0)
}

/// A member's read position.
pub fn member(group: Group, app: &str, conversation: &str, user: &str) -> Vec<u8> {
    let mut key = ids(group, app, conversation, user.len());
    key.extend_from_slice(user.as_bytes());
    key
}

/// One conversation in a user's list; with an empty conversation, the start of the list.
pub fn user_conversation(group: Group, app: &str, user: &str, conversation: &str) -> Vec<u8> {
    let mut key = ids(group, app, user, conversation.len());
    key.extend_from_slice(conversation.as_bytes());
    key
}

/// The end, exclusive, of a user's list.
pub fn user_conversations_end(group: Group, app: &str, user: &str) -> Vec<u8> {
    let mut key = user_conversation(group, app, user, "");
    if let Some(last) = key.last_mut() {
        *last = 1; // after every key with the zero byte that ends the user id
    }
    key
}

/// The conversation at the end of a list row's key, whose list starts with `start`.
pub fn listed_conversation<'a>(key: &'a [u8], start: &[u8]) -> Option<&'a str> {
    key.strip_prefix(start)
        .and_then(|id| std::str::from_utf8(id).ok())
}

/// What was stored under a digest on a day; days since 1970.
pub fn dedup(group: Group, day: u32, digest: &[u8; 16]) -> Vec<u8> {
    let mut key = dedup_day(group, day);
    key.extend_from_slice(digest);
    key
}

/// The start of a day's dedup rows.
pub fn dedup_day(group: Group, day: u32) -> Vec<u8> {
    let mut key = with_group(group, 20);
    key.extend_from_slice(&day.to_be_bytes());
    key
}

/// What an entry put into the outbox, by the number of its last item.
pub fn outbox(group: Group, number: u64) -> Vec<u8> {
    let mut key = with_group(group, 8);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The number of the last item, in an outbox key.
pub fn outbox_number(key: &[u8]) -> Option<u64> {
    key.get(4..)
        .and_then(|n| n.try_into().ok())
        .map(u64::from_be_bytes)
}

/// A group's applied log id and membership.
pub fn applied_key(group: Group) -> Vec<u8> {
    named(group, "applied")
}

/// A shard's counters.
pub fn shard_state(group: Group) -> Vec<u8> {
    named(group, "shard")
}

/// The cluster map.
pub fn cluster_map(group: Group) -> Vec<u8> {
    named(group, "map")
}

/// One app; with an empty id, the start of all apps.
pub fn app(group: Group, app_id: &str) -> Vec<u8> {
    let mut key = named(group, "app/");
    key.extend_from_slice(app_id.as_bytes());
    key
}

/// The end, exclusive, of all apps.
pub fn apps_end(group: Group) -> Vec<u8> {
    named(group, "app0") // '0' follows '/'
}

/// The cluster map that came with this node's invitation. Local: it is no group's, and in no snapshot.
pub fn invitation() -> Vec<u8> {
    named(Group::MAX, "invitation")
}

fn named(group: Group, name: &str) -> Vec<u8> {
    let mut key = with_group(group, name.len());
    key.extend_from_slice(name.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_seq_order_and_ranges_hold_what_they_should() {
        assert!(event(7, "demo", "d:1:a:b", 255) < event(7, "demo", "d:1:a:b", 256));
        assert!(event(7, "demo", "d:1:a:b", u64::MAX) < event(7, "demo", "d:1:a:bb", 0));
        assert_eq!(event_seq(&event(7, "demo", "d:1:a:b", 300)), Some(300));
        assert_eq!(outbox_number(&outbox(7, 9)), Some(9));
        let (from, to) = group_range(7);
        for key in [
            event(7, "", "", 0),
            conversation(7, "z", "z"),
            outbox(7, u64::MAX),
            applied_key(7),
            dedup_day(7, u32::MAX),
        ] {
            assert!(from <= key && key < to);
        }
        assert!(applied_key(8) >= to && applied_key(6) < from);
    }

    #[test]
    fn a_users_list_is_that_users_alone() {
        let (start, end) = (
            user_conversation(1, "demo", "al", ""),
            user_conversations_end(1, "demo", "al"),
        );
        let own = user_conversation(1, "demo", "al", "d:2:al:bo");
        assert!(start <= own && own < end);
        assert_eq!(listed_conversation(&own, &start), Some("d:2:al:bo"));
        for other in ["a", "ala", "am", "al\u{1}"] {
            let key = user_conversation(1, "demo", other, "d:1:x:y");
            assert!(key < start || key >= end, "{other:?}");
        }
        assert!(app(0, "zz") < apps_end(0) && app(0, "") < apps_end(0));
    }
}
