//! Sends that say behind which one they come. A client with several sends of a conversation on their way must not see a
//! later one stored when an earlier one was refused and will be sent again: what was refused for the moment takes along
//! what comes behind it.

use std::collections::VecDeque;

use parking_lot::Mutex;
use parlance_proto::ids::ConversationId;

/// The sends of one session that were refused for the moment.
///
/// Those of the newest refusals are enough, as many as a client may have unanswered requests: what comes behind a refused
/// send was on its way before the client heard of the refusal, and so was every request that was refused in between.
#[derive(Debug, Default)]
pub struct Chains(Mutex<VecDeque<(ConversationId, String)>>);

impl Chains {
    /// A send was refused and may come again; `kept` is how many are remembered.
    pub fn broke(&self, conversation: &ConversationId, client_message_id: &str, kept: usize) {
        let mut broken = self.0.lock();
        while broken.len() >= kept.max(1) {
            broken.pop_front();
        }
        broken.push_back((conversation.clone(), client_message_id.to_owned()));
    }

    /// Whether the send was refused, so that what comes behind it must be too.
    pub fn is_broken(&self, conversation: &ConversationId, client_message_id: &str) -> bool {
        let broken = self.0.lock();
        broken
            .iter()
            .any(|(c, id)| c == conversation && id == client_message_id)
    }

    /// A send goes on its way, perhaps one that was refused before.
    pub fn mended(&self, conversation: &ConversationId, client_message_id: &str) {
        let mut broken = self.0.lock();
        if !broken.is_empty() {
            broken.retain(|(c, id)| c != conversation || id != client_message_id);
            if broken.is_empty() {
                *broken = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_send_is_remembered_until_it_comes_again_or_is_too_old_to_matter() {
        let of = |id: &str| ConversationId::parse(id).unwrap();
        let (bob, carol) = (of("d:5:alice:bob"), of("d:5:alice:carol"));
        let chains = Chains::default();
        chains.broke(&bob, "1", 2);
        chains.broke(&bob, "2", 2);
        assert!(chains.is_broken(&bob, "1") && chains.is_broken(&bob, "2"));
        assert!(!chains.is_broken(&carol, "1") && !chains.is_broken(&bob, "3"));
        chains.mended(&bob, "2");
        assert!(chains.is_broken(&bob, "1") && !chains.is_broken(&bob, "2"));
        chains.broke(&carol, "1", 2);
        chains.broke(&carol, "2", 2);
        assert!(!chains.is_broken(&bob, "1"), "the oldest goes");
        chains.mended(&carol, "1");
        chains.mended(&carol, "2");
        assert_eq!(chains.0.lock().capacity(), 0);
    }
}
