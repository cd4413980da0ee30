//! What history and lists ask of a shard. Every read waits for the leader's barrier first, so it is never older than what
//! was acknowledged before it was asked, and then looks whether the shard still owns what is asked for.

mod list;
mod preview;

use std::sync::Arc;

use parlance_proto::client::v1::{Conversation, Direction, Event};
use parlance_proto::event::encode_event;
use parlance_proto::ids::{AppId, ConversationId, UserId};
use parlance_proto::limits::{ANSWER_BYTES_MAX, HISTORY_EVENTS_DEFAULT, HISTORY_EVENTS_MAX};
use parlance_proto::link::v1::{HeadsResult, HistoryResult};
use parlance_proto::slot::Slot;
use parlance_proto::store::v1::{ConversationHead, Member, StoredEvent};
use prost::Message;

pub use list::ListPage;

use super::{Shard, ShardError};
use crate::apply::event_header;
use crate::conversation::{Action, ConversationRows, Tip, face, may, unread};
use crate::link::Turn;
use crate::sabotage::{Switch, is_on, one_in};
use crate::store::key::{self, ConversationKeys};
use crate::store::{Order, StateStore, StoreError, Table, decode};

/// What an answer has around each of its events, at most.
const EVENT_FRAME_BYTES: usize = 8;

/// Which events of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct HistoryPage {
    /// The first wanted, inclusive; 0 is the newest (backward) or the oldest (forward).
    pub start_seq: u64,
    /// Events wanted; 0 means [`HISTORY_EVENTS_DEFAULT`].
    pub limit: u32,
    /// From `start_seq` on.
    pub direction: Direction,
    /// Bytes of events wanted; 0 means [`ANSWER_BYTES_MAX`], which is also the most. One event always comes.
    pub max_bytes: u32,
}

/// Reads of one shard; every one of them blocks on the disk, so they run beside the tasks, and only so many of one link
/// at a time. What waits for a majority keeps no other shard's reads waiting.
impl Shard {
    /// A page of a conversation's events, in ascending seq whatever the direction.
    pub async fn history(
        self: Arc<Self>,
        turn: Turn,
        app: AppId,
        conversation: ConversationId,
        user: UserId,
        page: HistoryPage,
    ) -> Result<HistoryResult, ShardError> {
        self.read(&turn, move |shard| {
            let rows = StoreRows(&*shard.store);
            let keys = shard.conversation_keys(&app, &conversation)?;
            may(&rows, &keys, &conversation, &user, Action::Read)?;
            Ok(history(&rows, &conversation, &keys, page)?)
        })
        .await
    }

    /// The heads of several conversations as one user sees them, in the order asked for.
    pub async fn heads(
        self: Arc<Self>,
        turn: Turn,
        app: AppId,
        user: UserId,
        conversations: Vec<ConversationId>,
    ) -> Result<HeadsResult, ShardError> {
        self.read(&turn, move |shard| {
            let rows = StoreRows(&*shard.store);
            let head = |conversation: &ConversationId| {
                let keys = shard.conversation_keys(&app, conversation)?;
                may(&rows, &keys, conversation, &user, Action::Read)?;
                Ok(head(&rows, conversation, &keys, &user)?)
            };
            let conversations = conversations.iter().map(head).collect::<Result<_, _>>();
            conversations.map(|conversations| HeadsResult { conversations })
        })
        .await
    }

    async fn read<T: Send + 'static>(
        self: Arc<Self>,
        turn: &Turn,
        rows: impl FnOnce(&Self) -> Result<T, ShardError> + Send + 'static,
    ) -> Result<T, ShardError> {
        if !(is_on(Switch::NoReadBarrier) && self.is_led_here()) {
            self.raft.read_barrier().await?;
        }
        let _running = turn.begin().await;
        let raft = self.raft.clone();
        let read = tokio::task::spawn_blocking(move || rows(&self)).await;
        match read.unwrap_or(Err(ShardError::Stopped)) {
            // The next leader has the rows whole.
            Err(ShardError::Store(error)) if raft.report(&error) => {
                Err(ShardError::NotLeader(None))
            }
            read => read,
        }
    }

    fn conversation_keys(
        &self,
        app: &AppId,
        conversation: &ConversationId,
    ) -> Result<ConversationKeys, ShardError> {
        let slot = self.owned(Slot::of_conversation(app, conversation))?;
        Ok(ConversationKeys::new(slot, app, conversation))
    }

    /// A slot, if the shard owns it by what is applied here.
    pub fn owned(&self, slot: Slot) -> Result<Slot, ShardError> {
        let range = self.range();
        if range.contains(slot) {
            Ok(slot)
        } else if range.slots.is_none() {
            // Its first leader has not said yet what it owns.
            Err(ShardError::NotLeader(None))
        } else {
            Err(ShardError::Moved(range))
        }
    }
}

/// The rows of the store.
pub struct StoreRows<'a>(pub &'a dyn StateStore);

impl StoreRows<'_> {
    fn row<M: Message + Default>(&self, table: Table, key: &[u8]) -> Result<Option<M>, StoreError> {
        let row = self.0.get(table, key)?;
        row.map(|row| decode(table.name(), &row)).transpose()
    }

    /// Calls `visit` with the events of a range until it answers false.
    fn visit_events(
        &self,
        (from, to): (&[u8], &[u8]),
        order: Order,
        visit: &mut dyn FnMut(u64, StoredEvent) -> bool,
    ) -> Result<(), StoreError> {
        let mut damage = None;
        self.0
            .scan(Table::Events, from, to, order, &mut |key, row| {
                let event = key::event_seq(key)
                    .ok_or_else(|| StoreError::Damaged {
                        what: "event key".to_owned(),
                        reason: "too short".to_owned(),
                    })
                    .and_then(|seq| Ok((seq, decode("event", row)?)));
                match event {
                    Ok((seq, event)) => visit(seq, event),
                    Err(error) => {
                        damage = Some(error);
                        false
                    }
                }
            })?;
        damage.map_or(Ok(()), Err)
    }
}

impl ConversationRows for StoreRows<'_> {
    fn head(&self, keys: &ConversationKeys) -> Result<Option<ConversationHead>, StoreError> {
        self.row(Table::Conversations, keys.head())
    }

    fn member(&self, keys: &ConversationKeys, user: &UserId) -> Result<Option<Member>, StoreError> {
        self.row(Table::Members, &keys.member(user))
    }

    fn event(&self, keys: &ConversationKeys, seq: u64) -> Result<Option<StoredEvent>, StoreError> {
        self.row(Table::Events, &keys.event(seq))
    }

    fn events(
        &self,
        keys: &ConversationKeys,
        from: u64,
    ) -> Result<Vec<(u64, StoredEvent)>, StoreError> {
        let mut events = Vec::new();
        let range = (keys.event(from), keys.event(u64::MAX));
        self.visit_events((&range.0, &range.1), Order::Ascending, &mut |seq, event| {
            events.push((seq, event));
            true
        })?;
        Ok(events)
    }
}

fn history(
    rows: &StoreRows<'_>,
    conversation: &ConversationId,
    keys: &ConversationKeys,
    page: HistoryPage,
) -> Result<HistoryResult, StoreError> {
    let head_seq = Tip::read(rows, keys)?.head_seq;
    let limit = match page.limit {
        0 => HISTORY_EVENTS_DEFAULT,
        wanted => wanted.min(HISTORY_EVENTS_MAX),
    } as usize;
    // Up to the head and no further: rows that are written while this runs are the next read's.
    let end = head_seq.saturating_add(1);
    let (first, behind, order) = match page.direction {
        Direction::Forward => (page.start_seq, end, Order::Ascending),
        Direction::Backward | Direction::Unspecified => {
            let start = match page.start_seq {
                0 => head_seq,
                seq => seq,
            };
            (0, start.saturating_add(1).min(end), Order::Descending)
        }
    };
    let max_bytes = match page.max_bytes as usize {
        0 => ANSWER_BYTES_MAX,
        wanted => wanted.min(ANSWER_BYTES_MAX),
    };
    let (mut events, mut more, mut bytes) = (Vec::new(), false, 0);
    if first < behind {
        let range = (keys.event(first), keys.event(behind));
        rows.visit_events((&range.0, &range.1), order, &mut |seq, event| {
            let mut header = event_header(conversation, seq, &event);
            if limit < 10 && one_in(50, Switch::ChangePages) {
                header.time_ms += 1;
            }
            let event = encode_event(&header, &event.body);
            bytes += event.len() + EVENT_FRAME_BYTES;
            more = events.len() == limit || (bytes > max_bytes && !events.is_empty());
            if !more {
                events.push(event);
            }
            !more
        })?;
    }
    if order == Order::Descending {
        events.reverse();
    }
    Ok(HistoryResult {
        events,
        head_seq,
        more,
    })
}

fn head(
    rows: &StoreRows<'_>,
    conversation: &ConversationId,
    keys: &ConversationKeys,
    user: &UserId,
) -> Result<Conversation, StoreError> {
    loop {
        let before = rows.head(keys)?;
        let shown = look_at_head(rows, conversation, keys, user)?;
        // Had the counts been written meanwhile, those of the tip and of the rows would not belong together.
        if rows.head(keys)? == before {
            return Ok(shown);
        }
    }
}

fn look_at_head(
    rows: &StoreRows<'_>,
    conversation: &ConversationId,
    keys: &ConversationKeys,
    user: &UserId,
) -> Result<Conversation, StoreError> {
    let face = face(conversation, user);
    let peer = face.peer.as_ref();
    let mut shown = Conversation {
        conversation_id: conversation.as_str().to_owned(),
        kind: face.kind.into(),
        peer: peer.map(String::from).unwrap_or_default(),
        ..Conversation::default()
    };
    // Positions first: they are never behind the newest event.
    let own = rows.member(keys, user)?.unwrap_or_default();
    shown.read_seq = own.read_seq;
    if let Some(peer) = peer {
        shown.peer_read_seq = rows.member(keys, peer)?.unwrap_or_default().read_seq;
    }
    let (tip, last) = Tip::read_with_last(rows, keys)?;
    if tip.head_seq == 0 {
        return Ok(shown);
    }
    let last = match last {
        Some(event) => Some(event),
        None => rows.row(Table::Events, &keys.event(tip.head_seq))?,
    };
    let sent = tip.sent(rows, keys, user)?;
    shown.head_seq = tip.head_seq;
    shown.unread_count = unread(tip.messages, sent, own.read_ordinal);
    let last = last.map(|event| whole_event(conversation, tip.head_seq, &event));
    shown.last_event = last.transpose()?;
    shown.last_event_cut = shown.last_event.as_mut().is_some_and(preview::cut);
    Ok(shown)
}

fn whole_event(
    conversation: &ConversationId,
    seq: u64,
    stored: &StoredEvent,
) -> Result<Event, StoreError> {
    let bytes = encode_event(&event_header(conversation, seq, stored), &stored.body);
    decode("event body", &bytes)
}

#[cfg(test)]
mod tests;
