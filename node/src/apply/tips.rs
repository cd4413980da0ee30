//! Tips of the conversations that were written last, so that a message into a busy one reads no row.

use std::collections::HashMap;

use super::rows::Rows;
use crate::conversation::Tip;
use crate::store::StoreError;
use crate::store::key::ConversationKeys;

/// Conversations of one generation. Two are kept: what is used moves to the younger one.
const GENERATION_MAX: usize = 4096;

/// The newest tips; always as the rows are.
#[derive(Default)]
pub(super) struct Tips {
    young: HashMap<ConversationKeys, Tip>,
    old: HashMap<ConversationKeys, Tip>,
}

impl Tips {
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
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// The rows were replaced.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
