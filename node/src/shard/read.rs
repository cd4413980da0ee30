//! What history and lists ask of a shard. Every read waits for the leader's barrier first: it is never older than
//! what was acknowledged before it was asked.

use parlance_proto::client::v1::{
    Conversation, ConversationKind, Direction, Event, HistoryResponse,
};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::DirectConversation;
use parlance_proto::limits::{HISTORY_BYTES_MAX, HISTORY_EVENTS_DEFAULT, HISTORY_EVENTS_MAX};
use parlance_proto::link::v1::{
    Heads, HeadsResult, History, ListConversations, ListConversationsResult,
};
use parlance_proto::store::v1::{ConversationHead, ReadPosition, StoredEvent};
use prost::Message;

use super::{Shard, ShardError};
use crate::apply::{client_event, decode, unread};
use crate::store::{Order, StoreError, Table, key};

fn members_with(conversation_id: &str, user: &str) -> Result<DirectConversation, ShardError> {
    let members = DirectConversation::parse(conversation_id)
        .map_err(|e| ShardError::Refused(Error::invalid("conversation_id", e.to_string())))?;
    if members.peer_of(user).is_none() {
        let message = "only the members of a conversation may read it";
        return Err(ShardError::Refused(Error::new(
            ErrorCode::PermissionDenied,
            message,
        )));
    }
    Ok(members)
}

impl Shard {
    async fn barrier(&self) -> Result<(), ShardError> {
        Ok(self.raft().read_barrier().await?)
    }

    /// A range of a conversation's events, in rising seq whatever the direction.
    pub async fn history(&self, ask: &History) -> Result<HistoryResponse, ShardError> {
        members_with(&ask.conversation_id, &ask.user_id)?;
        self.barrier().await?;
        let head = self
            .head(&ask.app_id, &ask.conversation_id)?
            .unwrap_or_default();
        let limit = match ask.limit {
            0 => HISTORY_EVENTS_DEFAULT,
            wanted => wanted.min(HISTORY_EVENTS_MAX),
        } as usize;
        let event_key = |seq| key::event(self.group(), &ask.app_id, &ask.conversation_id, seq);
        // Up to the head and no further: rows that are written while this runs are the next read's.
        let end = head.head_seq.saturating_add(1);
        let (from, to, order) = match ask.direction() {
            Direction::Forward => (event_key(ask.start_seq), event_key(end), Order::Rising),
            Direction::Backward | Direction::Unspecified => {
                let start = if ask.start_seq == 0 {
                    head.head_seq
                } else {
                    ask.start_seq
                };
                (
                    event_key(0),
                    event_key(start.saturating_add(1).min(end)),
                    Order::Falling,
                )
            }
        };
        let (mut events, more) = self.events(&ask.conversation_id, &from, &to, order, limit)?;
        if order == Order::Falling {
            events.reverse();
        }
        Ok(HistoryResponse {
            conversation_id: ask.conversation_id.clone(),
            events,
            head_seq: head.head_seq,
            more,
        })
    }

    fn events(
        &self,
        conversation_id: &str,
        from: &[u8],
        to: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<(Vec<Event>, bool), StoreError> {
        let (mut events, mut more, mut bytes) = (Vec::new(), false, 0);
        let mut failed = None;
        if from >= to {
            return Ok((events, false));
        }
        self.store()
            .scan(Table::Events, from, to, order, &mut |key, row| {
                if events.len() == limit || bytes >= HISTORY_BYTES_MAX {
                    more = true;
                    return false;
                }
                bytes += row.len();
                let event = key::event_seq(key)
                    .ok_or_else(|| StoreError::Damaged {
                        what: "event key".into(),
                        reason: "too short".into(),
                    })
                    .and_then(|seq| client_event(conversation_id, seq, &decode("event", row)?));
                match event {
                    Ok(event) => events.push(event),
                    Err(e) => failed = Some(e),
                }
                failed.is_none()
            })?;
        failed.map_or(Ok((events, more)), Err)
    }

    fn head(&self, app: &str, conversation: &str) -> Result<Option<ConversationHead>, StoreError> {
        self.row(
            Table::Conversations,
            &key::conversation(self.group(), app, conversation),
        )
    }

    fn row<M: Message + Default>(&self, table: Table, key: &[u8]) -> Result<Option<M>, StoreError> {
        self.store()
            .get(table, key)?
            .map(|row| decode(table.name(), &row))
            .transpose()
    }

    /// The heads of several conversations as one user sees them, in the order asked for.
    pub async fn heads(&self, ask: &Heads) -> Result<HeadsResult, ShardError> {
        self.barrier().await?;
        let conversations = ask
            .conversation_ids
            .iter()
            .map(|id| self.conversation(&ask.app_id, &ask.user_id, id))
            .collect::<Result<_, _>>()?;
        Ok(HeadsResult { conversations })
    }

    fn conversation(&self, app: &str, user: &str, id: &str) -> Result<Conversation, ShardError> {
        let members = members_with(id, user)?;
        let peer = members.peer_of(user).unwrap_or_default();
        let mut conversation = Conversation {
            conversation_id: id.to_owned(),
            kind: ConversationKind::Direct.into(),
            peer: peer.to_owned(),
            ..Default::default()
        };
        let Some(head) = self.head(app, id)? else {
            return Ok(conversation);
        };
        let position = |user| {
            self.row::<ReadPosition>(Table::Members, &key::member(self.group(), app, id, user))
        };
        let own = position(user)?.unwrap_or_default();
        let last: Option<StoredEvent> = self.row(
            Table::Events,
            &key::event(self.group(), app, id, head.head_seq),
        )?;
        conversation.head_seq = head.head_seq;
        conversation.read_seq = own.read_seq;
        conversation.peer_read_seq = position(peer)?.unwrap_or_default().read_seq;
        conversation.unread_count = unread(&head, &members, user, &own);
        conversation.last_event = last
            .map(|event| client_event(id, head.head_seq, &event))
            .transpose()?;
        Ok(conversation)
    }

    /// A page of a user's conversation ids, in order; this is the user's home shard.
    pub async fn list_conversations(
        &self,
        ask: &ListConversations,
    ) -> Result<ListConversationsResult, ShardError> {
        self.barrier().await?;
        let start = key::user_conversation(self.group(), &ask.app_id, &ask.user_id, "");
        let mut from = key::user_conversation(self.group(), &ask.app_id, &ask.user_id, &ask.after);
        if !ask.after.is_empty() {
            from.push(0); // the first key behind `after`
        }
        let end = key::user_conversations_end(self.group(), &ask.app_id, &ask.user_id);
        let limit = ask
            .limit
            .clamp(1, parlance_proto::limits::CONVERSATIONS_PAGE_MAX) as usize;
        let mut result = ListConversationsResult::default();
        self.store()
            .scan(Table::Users, &from, &end, Order::Rising, &mut |key, _| {
                if result.conversation_ids.len() == limit {
                    result.more = true;
                    return false;
                }
                result
                    .conversation_ids
                    .extend(key::listed_conversation(key, &start).map(str::to_owned));
                true
            })?;
        Ok(result)
    }
}
