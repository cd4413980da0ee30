//! What must reach others: numbered items, one row an entry, kept until the slowest consumer is done with them.

use bytes::Bytes;
use parlance_proto::client::v1::{Event, ReadCursor, ServerFrame, server_frame};
use parlance_proto::event::encode_event_frame;
use parlance_proto::ids::{ConversationId, ShardId, UserId};
use parlance_proto::store::v1::{
    Consumer, OutboxBatch, OutboxItem, ShardState, StoredEvent, Watermark,
};
use prost::Message as _;

use super::rows::Rows;
use crate::store::{Order, StateStore, StoreError, Table, decode, key};

/// Outbox rows are removed this many items at a time, so that a watermark on each batch does not cost a range tombstone each.
pub(super) const TRIM_ITEMS: u64 = 4096;
/// Everybody who reads outboxes. An item is kept until all are done with it that the shard's counters name.
pub const CONSUMERS: [Consumer; 1] = [Consumer::Relay];

/// The feature level from which on a consumer is there.
fn since(consumer: Consumer) -> u32 {
    match consumer {
        Consumer::Unspecified | Consumer::Relay => 1,
    }
}

/// Names the consumers of a feature level that the counters lack. Those begin behind what is there, since rows may be gone.
pub(super) fn add_consumers(state: &mut ShardState, level: u32) {
    for consumer in CONSUMERS {
        let named = state
            .watermarks
            .iter()
            .any(|mark| mark.consumer() == consumer);
        if !named && level >= since(consumer) {
            state.watermarks.push(Watermark {
                consumer: consumer.into(),
                number: state.outbox_last,
            });
        }
    }
}

/// How far a consumer has come; 0 if it has not begun.
pub fn watermark(state: &ShardState, consumer: Consumer) -> u64 {
    state
        .watermarks
        .iter()
        .find(|mark| mark.consumer() == consumer)
        .map_or(0, |mark| mark.number)
}

/// Up to where all consumers are done.
pub(super) fn slowest(state: &ShardState) -> u64 {
    let marks = state.watermarks.iter().map(|mark| mark.number);
    marks.min().unwrap_or(0)
}

/// Takes the consumers' new positions, and removes what none of them needs.
pub(super) fn advance(
    shard: ShardId,
    state: &mut ShardState,
    moved: &[Watermark],
    rows: &mut Rows<'_>,
) {
    let before = slowest(state) / TRIM_ITEMS;
    for mark in moved {
        let known = state
            .watermarks
            .iter_mut()
            .find(|known| known.consumer == mark.consumer);
        match known {
            Some(known) => known.number = known.number.max(mark.number),
            None => state.watermarks.push(*mark),
        }
    }
    let now = slowest(state) / TRIM_ITEMS;
    if now > before {
        let (from, to) = (
            key::outbox(shard, 0),
            key::outbox(shard, now * TRIM_ITEMS + 1),
        );
        rows.delete_range(Table::Outbox, from, to);
    }
}

/// The items behind number `after` with their numbers, in whole rows, until there are `max` or no more.
pub fn undelivered(
    store: &dyn StateStore,
    shard: ShardId,
    after: u64,
    max: usize,
) -> Result<Vec<(u64, OutboxItem)>, StoreError> {
    let mut items = Vec::new();
    let mut damage = None;
    let (from, to) = (key::outbox(shard, after + 1), key::outbox(shard, u64::MAX));
    store.scan(
        Table::Outbox,
        &from,
        &to,
        Order::Ascending,
        &mut |key, row| {
            match numbered(key, row) {
                Ok(row) => items.extend(row.into_iter().filter(|(number, _)| *number > after)),
                Err(error) => damage = Some(error),
            }
            damage.is_none() && items.len() < max
        },
    )?;
    damage.map_or(Ok(items), Err)
}

/// The items of a row with their numbers.
pub(super) fn numbered(key: &[u8], row: &[u8]) -> Result<Vec<(u64, OutboxItem)>, StoreError> {
    let damaged = |reason: &str| StoreError::Damaged {
        what: "outbox row".to_owned(),
        reason: reason.to_owned(),
    };
    let last = key::outbox_number(key).ok_or_else(|| damaged("its key is too short"))?;
    let items = decode::<OutboxBatch>("outbox row", row)?.items;
    let before = last
        .checked_sub(items.len() as u64)
        .ok_or_else(|| damaged("it has more items than were numbered"))?;
    Ok((before + 1..).zip(items).collect())
}

/// What an event's audience gets.
pub fn frame_of_event(conversation: &ConversationId, seq: u64, stored: &StoredEvent) -> Bytes {
    encode_event_frame(&event_header(conversation, seq, stored), &stored.body)
}

/// An event without its body, as clients see it.
pub fn event_header(conversation: &ConversationId, seq: u64, stored: &StoredEvent) -> Event {
    Event {
        conversation_id: conversation.as_str().to_owned(),
        seq,
        time_ms: stored.time_ms,
        sender: stored.sender.clone(),
        body: None,
    }
}

/// What the members of a conversation get when one of them has read on.
pub fn frame_of_read_cursor(conversation: &ConversationId, user: &UserId, read_seq: u64) -> Bytes {
    let cursor = ReadCursor {
        conversation_id: conversation.as_str().to_owned(),
        user_id: user.as_str().to_owned(),
        read_seq,
    };
    let frame = ServerFrame {
        request_id: 0,
        body: Some(server_frame::Body::ReadCursor(cursor)),
    };
    frame.encode_to_vec().into()
}
