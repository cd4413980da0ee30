//! Who leads which shard: the newest that this node has seen itself or heard from another.

use std::collections::BTreeMap;

use parlance_proto::ids::{NodeId, ShardId};
use tokio::sync::watch;

/// A leader in a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lead {
    /// The term; a higher one is newer.
    pub term: u64,
    /// None while the term has no leader that is known.
    pub node: Option<NodeId>,
}

/// The table of leaders, by shard. Cheap to clone.
#[derive(Clone)]
pub struct Leaders {
    table: watch::Sender<BTreeMap<ShardId, Lead>>,
}

impl Default for Leaders {
    fn default() -> Self {
        Self {
            table: watch::Sender::new(BTreeMap::new()),
        }
    }
}

impl Leaders {
    /// The leader of a shard, if one is known.
    pub fn of(&self, shard: ShardId) -> Option<NodeId> {
        self.table.borrow().get(&shard).and_then(|lead| lead.node)
    }

    /// All leaders, now and after each change.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<ShardId, Lead>> {
        self.table.subscribe()
    }

    /// Takes what is newer: a higher term, or in the same term a leader where none was known.
    pub fn learn(&self, shard: ShardId, lead: Lead) {
        self.table.send_if_modified(|table| {
            let known = table.entry(shard).or_default();
            let newer = lead.term > known.term
                || (lead.term == known.term && known.node.is_none() && lead.node.is_some());
            if newer {
                *known = lead;
            }
            newer
        });
    }

    /// What `node` leads: shards and terms.
    pub fn led_by(&self, node: NodeId) -> Vec<(ShardId, u64)> {
        let table = self.table.borrow();
        let led = table.iter().filter(|(_, lead)| lead.node == Some(node));
        led.map(|(shard, lead)| (*shard, lead.term)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_terms_and_first_leaders_of_a_term_count() {
        let leaders = Leaders::default();
        const SHARD: ShardId = ShardId(3);
        let learn = |term, node: Option<u64>| {
            let node = node.map(NodeId);
            leaders.learn(SHARD, Lead { term, node });
        };
        learn(5, Some(1));
        learn(4, Some(2));
        assert_eq!(leaders.of(SHARD), Some(NodeId(1)));
        learn(6, None);
        assert_eq!(leaders.of(SHARD), None);
        learn(6, Some(2));
        assert_eq!(leaders.of(SHARD), Some(NodeId(2)));
        learn(6, Some(1));
        assert_eq!(leaders.led_by(NodeId(2)), [(SHARD, 6)]);
        assert!(leaders.led_by(NodeId(1)).is_empty());
    }
}
