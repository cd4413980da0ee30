//! Every key of the state store. Keys are on disk and travel in snapshots: a layout never changes once released, and the
//! golden file beside the tests has the bytes of each.
//!
//! | table | key | value (`parlance.store.v1`) | removed by |
//! | --- | --- | --- | --- |
//! | events | slot app 0 conversation 0 seq (8 bytes) | `StoredEvent` | retention, once there is one |
//! | conversations | slot app 0 conversation 0 | `ConversationHead` | never |
//! | members | slot app 0 conversation 0 user | `Member` | never |
//! | users | slot app 0 user 0 conversation | `UserConversation` | never |
//! | users | slot app 0 user 1 | `UserList` | never |
//! | users | slot app 0 user 1 generation (8 bytes) conversation | nothing | the conversation's next touch |
//! | dedup | day (4 bytes) slot digest (16 bytes) | `DedupRecord` | the second day after |
//! | outbox | shard number of the last item (8 bytes) | `OutboxBatch` | the slowest consumer's watermark |
//! | meta | shard `applied` | `AppliedState` | never |
//! | meta | shard `shard` | `ShardState` | never |
//! | meta | shard `map` (meta shard) | `ClusterMap` | never |
//! | meta | shard `app/` app (meta shard) | `App` | never |
//! | meta | shard `kick/` app 0 user (meta shard) | `Kick` | a later kick, once its time is over and room is needed |
//! | meta | `invitation` (no shard: 4 bytes of 255) | `ClusterMap` | never |
//!
//! A slot has 2 bytes and a shard 4; all numbers are big-endian, so that byte order is their order. Ids have no zero byte
//! (`parlance_proto::ids`), so a zero byte ends them; users' ids have no control character at all.

use parlance_proto::ids::{AppId, ConversationId, ShardId, UserId};
use parlance_proto::slot::{Slot, SlotRange};

use super::Table;

fn with_slot(slot: Slot, capacity: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + capacity);
    key.extend_from_slice(&slot.number().to_be_bytes());
    key
}

fn push_id(key: &mut Vec<u8>, id: &str) {
    key.extend_from_slice(id.as_bytes());
    key.push(0);
}

/// The keys of one conversation's rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConversationKeys {
    head: Vec<u8>,
}

impl ConversationKeys {
    /// Of a conversation that lives in `slot`.
    pub fn new(slot: Slot, app: &AppId, conversation: &ConversationId) -> Self {
        let (app, conversation) = (app.as_str(), conversation.as_str());
        let mut head = with_slot(slot, app.len() + conversation.len() + 2);
        push_id(&mut head, app);
        push_id(&mut head, conversation);
        Self { head }
    }

    /// The conversation's row.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// One event.
    pub fn event(&self, seq: u64) -> Vec<u8> {
        self.with(&seq.to_be_bytes())
    }

    /// One member.
    pub fn member(&self, user: &UserId) -> Vec<u8> {
        self.with(user.as_str().as_bytes())
    }

    fn with(&self, end: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.head.len() + end.len());
        key.extend_from_slice(&self.head);
        key.extend_from_slice(end);
        key
    }
}

/// The seq at the end of an event's key.
pub fn event_seq(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|seq| u64::from_be_bytes(*seq))
}

/// The keys of one user's conversation list.
#[derive(Debug, Clone)]
pub struct ListKeys {
    start: Vec<u8>,
}

impl ListKeys {
    /// Of a user whose home is `slot`.
    pub fn new(slot: Slot, app: &AppId, user: &UserId) -> Self {
        let (app, user) = (app.as_str(), user.as_str());
        let mut start = with_slot(slot, app.len() + user.len() + 2);
        push_id(&mut start, app);
        push_id(&mut start, user);
        Self { start }
    }

    /// One conversation in the list.
    pub fn entry(&self, conversation: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.start.len() + conversation.len());
        key.extend_from_slice(&self.start);
        key.extend_from_slice(conversation.as_bytes());
        key
    }

    /// The entries behind one, or all: from inclusive, to exclusive.
    pub fn behind(&self, conversation: &str) -> (Vec<u8>, Vec<u8>) {
        let mut from = self.entry(conversation);
        if !conversation.is_empty() {
            from.push(0); // the first key behind it
        }
        (from, self.ended_by(1)) // behind every key with the zero byte that ends the user id
    }

    /// The conversation of an entry's key.
    pub fn conversation<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        key.strip_prefix(self.start.as_slice())
            .and_then(|id| std::str::from_utf8(id).ok())
    }

    /// The list's own row.
    pub fn list(&self) -> Vec<u8> {
        self.ended_by(1)
    }

    /// That a conversation was touched last in a generation.
    pub fn touch(&self, generation: u64, conversation: &str) -> Vec<u8> {
        let mut key = self.ended_by(1);
        key.extend_from_slice(&generation.to_be_bytes());
        key.extend_from_slice(conversation.as_bytes());
        key
    }

    /// The touches behind one, by generation and then by conversation; with an empty conversation all from the generation
    /// on: from inclusive, to exclusive.
    pub fn touches_behind(&self, generation: u64, conversation: &str) -> (Vec<u8>, Vec<u8>) {
        let mut from = self.touch(generation, conversation);
        if !conversation.is_empty() {
            from.push(0); // the first key behind it
        }
        (from, self.ended_by(2))
    }

    /// The generation and the conversation of a touch's key.
    pub fn touched<'a>(&self, key: &'a [u8]) -> Option<(u64, &'a str)> {
        let (generation, id) = key.get(self.start.len()..)?.split_first_chunk::<8>()?;
        let id = std::str::from_utf8(id).ok()?;
        Some((u64::from_be_bytes(*generation), id))
    }

    fn ended_by(&self, end: u8) -> Vec<u8> {
        let mut key = self.start.clone();
        if let Some(last) = key.last_mut() {
            *last = end;
        }
        key
    }
}

/// What was stored under a digest on a day; days since 1970.
pub fn dedup(day: u32, slot: Slot, digest: &[u8; 16]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + 2 + digest.len());
    key.extend_from_slice(&day.to_be_bytes());
    key.extend_from_slice(&slot.number().to_be_bytes());
    key.extend_from_slice(digest);
    key
}

/// A day's dedup rows of some slots: from inclusive, to exclusive.
pub fn dedup_day(day: u32, slots: SlotRange) -> (Vec<u8>, Vec<u8>) {
    let (from, to) = slot_range(slots);
    let with_day = |end: Vec<u8>| [day.to_be_bytes().as_slice(), &end].concat();
    (with_day(from), with_day(to))
}

/// The rows of some slots in a table whose keys begin with the slot: from inclusive, to exclusive.
pub fn slot_range(slots: SlotRange) -> (Vec<u8>, Vec<u8>) {
    let (first, last) = (slots.first().number(), slots.last().number());
    (
        first.to_be_bytes().to_vec(),
        (last + 1).to_be_bytes().to_vec(),
    )
}

/// The tables whose keys begin with the slot.
pub const BY_SLOT: [Table; 4] = [
    Table::Events,
    Table::Conversations,
    Table::Members,
    Table::Users,
];

/// What an entry put into the outbox, by the number of its last item.
pub fn outbox(shard: ShardId, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(12);
    key.extend_from_slice(&shard.0.to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The number of the last item, in an outbox key.
pub fn outbox_number(key: &[u8]) -> Option<u64> {
    key.get(4..)
        .and_then(|n| n.try_into().ok())
        .map(u64::from_be_bytes)
}

/// A shard's rows in a table whose keys begin with the shard: from inclusive, to exclusive.
pub fn shard_range(shard: ShardId) -> (Vec<u8>, Vec<u8>) {
    (
        shard.0.to_be_bytes().to_vec(),
        shard.0.saturating_add(1).to_be_bytes().to_vec(),
    )
}

/// A shard's applied log id and voters.
pub fn applied(shard: ShardId) -> Vec<u8> {
    named(shard, "applied")
}

/// A shard's counters.
pub fn shard_state(shard: ShardId) -> Vec<u8> {
    named(shard, "shard")
}

/// The cluster map.
pub fn cluster_map() -> Vec<u8> {
    named(ShardId::META, "map")
}

/// One app.
pub fn app(app: &AppId) -> Vec<u8> {
    named(ShardId::META, &format!("app/{app}"))
}

/// All apps: from inclusive, to exclusive.
pub fn apps() -> (Vec<u8>, Vec<u8>) {
    // '0' follows '/'
    (named(ShardId::META, "app/"), named(ShardId::META, "app0"))
}

/// What threw a user out last.
pub fn kick(app: &AppId, user: &UserId) -> Vec<u8> {
    named(ShardId::META, &format!("kick/{app}\0{user}"))
}

/// All kicks: from inclusive, to exclusive.
pub fn kicks() -> (Vec<u8>, Vec<u8>) {
    (named(ShardId::META, "kick/"), named(ShardId::META, "kick0"))
}

/// The cluster map that came with this node's invitation. Local: it is no shard's, and in no snapshot.
pub fn invitation() -> Vec<u8> {
    named(ShardId(u32::MAX), "invitation")
}

fn named(shard: ShardId, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + name.len());
    key.extend_from_slice(&shard.0.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}

#[cfg(test)]
mod tests;
