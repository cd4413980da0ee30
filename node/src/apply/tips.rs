//! Tips of the conversations that were written last, so that a message into a busy one reads no row.

use std::collections::HashMap;
use std::sync::Arc;

use super::rows::Rows;
use crate::conversation::Tip;
use crate::store::StoreError;
use crate::store::key::ConversationKeys;
use crate::totals::{Part, Total};

/// Conversations of one generation. Two are kept: what is used moves to the younger one.
const GENERATION_MAX: usize = 4096;

/// As many stay in one generation when all shards of the node together have too many.
const GENERATION_LEAST: usize = 64;

/// The newest tips; always as the rows are.
pub(super) struct Tips {
    young: HashMap<ConversationKeys, Tip>,
    old: HashMap<ConversationKeys, Tip>,
    part: Part,
}

impl Tips {
    /// None yet, of what all shards of a node may have.
    pub(super) fn new(total: &Arc<Total>) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            part: total.part(),
        }
    }

    /// Takes a conversation's tip out, to be put back changed.
    pub(super) fn take(
        &mut self,
        rows: &Rows<'_>,
        keys: &ConversationKeys,
    ) -> Result<Tip, StoreError> {
        match self.young.remove(keys).or_else(|| self.old.remove(keys)) {
            Some(tip) => Ok(tip),
            None => Tip::read(rows, keys),
        }
    }

    pub(super) fn put(&mut self, keys: ConversationKeys, tip: Tip) {
        self.young.insert(keys, tip);
    }

    /// The rows are written: what was not used lately may go.
    pub(super) fn settle(&mut self) {
        self.part.set(self.young.len() + self.old.len());
        let most = if self.part.is_passed_by(0) {
            GENERATION_LEAST
        } else {
            GENERATION_MAX
        };
        if self.young.len() >= most {
            self.old = std::mem::take(&mut self.young);
            self.part.set(self.old.len());
        }
    }

    /// The rows were replaced.
    pub(super) fn forget(&mut self) {
        self.young.clear();
        self.old.clear();
        self.part.set(0);
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::ids::{AppId, ConversationId};
    use parlance_proto::slot::Slot;

    use super::*;

    fn fill(tips: &mut Tips, count: usize) {
        let (app, chat) = (AppId::new("demo").unwrap(), |n| format!("g:{n}"));
        for n in 0..count {
            let id = ConversationId::parse(&chat(n)).unwrap();
            let keys = ConversationKeys::new(Slot::FIRST, &app, &id);
            tips.put(keys, Tip::default());
            tips.settle();
        }
    }

    #[test]
    fn many_shards_together_keep_no_more_than_few() {
        let total = Total::new(1_000);
        let mut few = Tips::new(&total);
        fill(&mut few, 900);
        assert_eq!(few.young.len(), 900);
        let mut others: Vec<Tips> = (0..50).map(|_| Tips::new(&total)).collect();
        others.iter_mut().for_each(|tips| fill(tips, 900));
        let kept = |tips: &Tips| tips.young.len() + tips.old.len();
        let all: usize = others.iter().map(kept).sum();
        assert!(all < 50 * 2 * GENERATION_LEAST + 1_000, "{all}");
        drop(others);
        few.forget();
        assert!(!total.is_passed_by(1_000), "all of it is free again");
    }
}
