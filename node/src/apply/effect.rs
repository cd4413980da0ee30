//! What applying an entry wants done outside: only the leader does it, other replicas do not even write it down.

use bytes::Bytes;
use parlance_proto::client::v1::ReadCursor;

/// Something that other shards must hear of; it is in the outbox under `number` until they have.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Its outbox number; 1, 2, 3 … in one shard.
    pub number: u64,
    /// Whose.
    pub app_id: String,
    /// The conversation that it is about; its members are to hear of it.
    pub conversation_id: String,
    /// What.
    pub body: EffectBody,
}

impl Effect {
    /// Bytes in memory, about.
    pub fn size(&self) -> usize {
        let body = match &self.body {
            EffectBody::Event { event, .. } => event.len(),
            EffectBody::ReadCursor(_) => 0,
        };
        size_of::<Self>() + self.conversation_id.len() + body
    }
}

/// The content of an [`Effect`].
#[derive(Debug, Clone, PartialEq)]
pub enum EffectBody {
    /// A new event, and the session that sent it, which knows already.
    Event {
        /// As clients get it: an encoded `parlance.client.v1.Event`.
        event: Bytes,
        /// Empty if unknown.
        except_session_id: String,
    },
    /// A read cursor moved.
    ReadCursor(ReadCursor),
}

/// Takes effects.
pub trait Effects: Send + 'static {
    /// Whether effects of what is applied from now on are wanted.
    fn wanted(&self) -> bool;

    /// The effects of one write, in order, after its rows are readable. Must not block.
    fn publish(&mut self, effects: Vec<Effect>);
}
