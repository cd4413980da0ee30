//! A conversation as it is after its newest event.
//!
//! Its row and its members' counts are written once in [`CHECKPOINT_EVENTS`] events; the headers of the events behind say
//! the rest. So a message costs no row but its own, on every replica alike: when to write follows from the seq alone.

use std::collections::BTreeMap;

use parlance_proto::ids::UserId;
use parlance_proto::store::v1::{ConversationHead, Member, StoredEvent};

use crate::store::StoreError;
use crate::store::key::ConversationKeys;

/// Events between two writes of a conversation's row; so many are read at most when it is not in memory.
pub const CHECKPOINT_EVENTS: u64 = 16;

/// A conversation after its newest event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tip {
    /// Seq of the newest event; 0 if there is none.
    pub head_seq: u64,
    /// Messages so far.
    pub messages: u64,
    /// When the first event came, in ms since 1970 UTC.
    pub created_ms: i64,
    /// Messages of those who have sent any since the conversation's row was written.
    sent: BTreeMap<UserId, u64>,
}

/// Reads rows of one conversation.
pub trait ConversationRows {
    /// The conversation's row.
    fn head(&self, keys: &ConversationKeys) -> Result<Option<ConversationHead>, StoreError>;
    /// A member's row.
    fn member(&self, keys: &ConversationKeys, user: &UserId) -> Result<Option<Member>, StoreError>;
    /// One event.
    fn event(&self, keys: &ConversationKeys, seq: u64) -> Result<Option<StoredEvent>, StoreError>;
    /// The events from a seq on, in order; not more than a few behind the conversation's row.
    fn events(
        &self,
        keys: &ConversationKeys,
        from: u64,
    ) -> Result<Vec<(u64, StoredEvent)>, StoreError>;
}

impl Tip {
    /// Of the rows.
    pub fn read(rows: &impl ConversationRows, keys: &ConversationKeys) -> Result<Self, StoreError> {
        Ok(Self::read_with_last(rows, keys)?.0)
    }

    /// Of the rows, and the newest event if it is behind the conversation's row.
    pub fn read_with_last(
        rows: &impl ConversationRows,
        keys: &ConversationKeys,
    ) -> Result<(Self, Option<StoredEvent>), StoreError> {
        let head = rows.head(keys)?.unwrap_or_default();
        let mut tip = Self {
            head_seq: head.head_seq,
            messages: head.message_ordinal,
            created_ms: head.created_ms,
            sent: BTreeMap::new(),
        };
        let mut last = None;
        for (seq, event) in rows.events(keys, head.head_seq + 1)? {
            let sender = UserId::new(&event.sender).map_err(|e| StoreError::Damaged {
                what: format!("sender of event {seq}"),
                reason: e.to_string(),
            })?;
            if tip.head_seq == 0 {
                tip.created_ms = event.time_ms;
            }
            tip.head_seq = seq;
            tip.messages = event.message_ordinal;
            tip.sent.insert(sender, event.sender_ordinal);
            last = Some(event);
        }
        Ok((tip, last))
    }

    /// How many messages a member has sent.
    pub fn sent(
        &self,
        rows: &impl ConversationRows,
        keys: &ConversationKeys,
        user: &UserId,
    ) -> Result<u64, StoreError> {
        match self.sent.get(user) {
            Some(sent) => Ok(*sent),
            None => Ok(rows.member(keys, user)?.unwrap_or_default().sent),
        }
    }

    /// One more message, the `own`th of its sender.
    pub fn add_message(&mut self, sender: &UserId, own: u64, time_ms: i64) {
        if self.head_seq == 0 {
            self.created_ms = time_ms;
        }
        self.head_seq += 1;
        self.messages += 1;
        match self.sent.get_mut(sender) {
            Some(sent) => *sent = own,
            None => {
                self.sent.insert(sender.clone(), own);
            }
        }
    }

    /// Whether the row and the members' counts are to be written now.
    pub fn is_checkpoint(&self) -> bool {
        self.head_seq.is_multiple_of(CHECKPOINT_EVENTS)
    }

    /// What the conversation's row is to be, and the counts of the members' rows beside it, which are in memory no longer.
    pub fn checkpoint(&mut self) -> (ConversationHead, BTreeMap<UserId, u64>) {
        let head = ConversationHead {
            head_seq: self.head_seq,
            message_ordinal: self.messages,
            created_ms: self.created_ms,
        };
        (head, std::mem::take(&mut self.sent))
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::ids::{AppId, ConversationId};
    use parlance_proto::slot::Slot;
    use proptest::prelude::*;

    use super::*;

    /// What a store has of one conversation.
    #[derive(Default)]
    struct Written {
        head: Option<ConversationHead>,
        members: BTreeMap<UserId, Member>,
        events: BTreeMap<u64, StoredEvent>,
    }

    impl ConversationRows for Written {
        fn head(&self, _: &ConversationKeys) -> Result<Option<ConversationHead>, StoreError> {
            Ok(self.head)
        }

        fn member(
            &self,
            _: &ConversationKeys,
            user: &UserId,
        ) -> Result<Option<Member>, StoreError> {
            Ok(self.members.get(user).copied())
        }

        fn event(&self, _: &ConversationKeys, seq: u64) -> Result<Option<StoredEvent>, StoreError> {
            Ok(self.events.get(&seq).cloned())
        }

        fn events(
            &self,
            _: &ConversationKeys,
            from: u64,
        ) -> Result<Vec<(u64, StoredEvent)>, StoreError> {
            let events = self.events.range(from..);
            Ok(events.map(|(seq, event)| (*seq, event.clone())).collect())
        }
    }

    impl Written {
        /// As applying a message does.
        fn send(&mut self, tip: &mut Tip, keys: &ConversationKeys, sender: &UserId, time_ms: i64) {
            let own = tip.sent(self, keys, sender).unwrap() + 1;
            tip.add_message(sender, own, time_ms);
            let event = StoredEvent {
                time_ms,
                sender: sender.as_str().to_owned(),
                message_ordinal: tip.messages,
                sender_ordinal: own,
                ..StoredEvent::default()
            };
            self.events.insert(tip.head_seq, event);
            if tip.is_checkpoint() {
                let (head, counts) = tip.checkpoint();
                self.head = Some(head);
                for (user, sent) in counts {
                    self.members.entry(user).or_default().sent = sent;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_rows_say_the_same_as_the_tip_in_memory(
            senders in prop::collection::vec(any::<bool>(), 1..4 * CHECKPOINT_EVENTS as usize),
            start_ms in 1i64..1_000,
        ) {
            let app = AppId::new("demo").unwrap();
            let conversation = ConversationId::parse("d:1:a:b").unwrap();
            let keys = &ConversationKeys::new(Slot::new(0).unwrap(), &app, &conversation);
            let users = ["a", "b"].map(|id| UserId::new(id).unwrap());
            let (mut rows, mut tip) = (Written::default(), Tip::default());
            let mut sent = [0; 2];
            for (time_ms, second) in (start_ms..).zip(senders) {
                let which = usize::from(second);
                rows.send(&mut tip, keys, &users[which], time_ms);
                sent[which] += 1;
                prop_assert_eq!(tip.created_ms, start_ms);
                let (read, last) = Tip::read_with_last(&rows, keys).unwrap();
                prop_assert_eq!(&read, &tip);
                prop_assert_eq!(last.is_none(), tip.is_checkpoint());
                for (user, sent) in users.iter().zip(sent) {
                    prop_assert_eq!(tip.sent(&rows, keys, user).unwrap(), sent);
                    prop_assert_eq!(read.sent(&rows, keys, user).unwrap(), sent);
                }
            }
        }
    }
}
