//! What applying an entry wants done outside: only the leader does it, other replicas do not even write it down.

use bytes::Bytes;
use parlance_proto::ids::{AppId, ConversationId};

use super::range::OwnedRange;
use crate::conversation::Audience;

/// Something that others must hear of; it is in the outbox under `number` until they have.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Its outbox number; 1, 2, 3 … in one shard.
    pub number: u64,
    /// The app.
    pub app: AppId,
    /// The conversation that it is about.
    pub conversation: ConversationId,
    /// Who is to hear of it.
    pub audience: Audience,
    /// The session that caused it, which knows already; empty if unknown.
    pub except_session_id: String,
    /// What they get: an encoded `parlance.client.v1.ServerFrame`.
    pub frame: Bytes,
}

impl Effect {
    /// Bytes in memory, about.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.conversation.as_str().len() + self.frame.len()
    }
}

/// Takes effects.
pub trait Effects: Send + 'static {
    /// Whether effects of what is applied from now on are wanted.
    fn wanted(&self) -> bool;

    /// The effects of one write, in order, after its rows are readable. Must not block.
    fn publish(&mut self, effects: Vec<Effect>);

    /// The shard owns these slots now: at its start, after a split, after a snapshot. Must not block.
    fn owns(&mut self, range: &OwnedRange);
}
